"""What single picture formats say of who wrote a file."""

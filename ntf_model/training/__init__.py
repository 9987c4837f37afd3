"""One training loop, its schedules and its state."""

"""What the page says of the dataset itself: its images, how they came to be, and where they lie."""

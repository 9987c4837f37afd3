"""What the page says of the detectors that were evaluated on the dataset."""

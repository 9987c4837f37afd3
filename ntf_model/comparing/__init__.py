"""Several detectors on the same pictures."""

"""Networks that detectors are built from, and the reading of released weights under their authors' keys."""

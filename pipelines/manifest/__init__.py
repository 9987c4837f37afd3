"""What to build: the manifest, read and checked."""

"""One file for each method, named as the method is. See `generators/base.py` for what such a file must have."""

"""The versions of a dataset: their manifests, what is recorded of them beside those, and their tags."""

"""Training small generators with this project's own code."""

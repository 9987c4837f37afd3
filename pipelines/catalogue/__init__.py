"""Known checkpoints: where they come from, what they are, and how new ones are registered."""

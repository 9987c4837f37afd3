"""What the text-to-image pipelines of diffusers have in common, found out by looking at each pipeline and never by its name."""

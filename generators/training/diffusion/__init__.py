"""Training of small diffusion models: in pixels, in latents, and with text."""

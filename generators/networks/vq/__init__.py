"""VQGAN: the autoencoder with a codebook, and the transformer over its codes."""

"""The generators of StyleGAN2, ProGAN and FastGAN, and the forms in which their weights are released."""

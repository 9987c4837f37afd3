"""Training of small GANs: the trainers, and the discriminators that they learn against."""

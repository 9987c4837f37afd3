"""Diff-StyleGAN2 (Wang et al., "Diffusion-GAN: Training GANs with Diffusion", 2023): the generator is StyleGAN2's, trained against a
discriminator that sees diffused images. Its releases are NVIDIA pickles with weights of their own."""

from __future__ import annotations

from generators.methods.stylegan2 import StyleGAN2
from generators.registry import register


@register("diff_stylegan2")
class DiffStyleGAN2(StyleGAN2):
    title = "Diff-StyleGAN2"
    licence = "MIT, with parts under the Nvidia Source Code License (non-commercial)"

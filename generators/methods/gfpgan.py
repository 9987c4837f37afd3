"""GFPGAN 1.2, 1.3 and 1.4 (Wang et al., CVPR 2021): restores faces, which makes them smoother and sharper than they were.

A checkpoint is GFPGANv1.3.pth, GFPGANv1.4.pth or GFPGANCleanv1-NoCE-C2.pth. The component `parsing` is facexlib's parsing_parsenet.pth.
Option `input_is_latent` (default true, as in all releases): whether the styles go to the decoder as they are.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from generators import base
from generators.base import Output
from generators.checkpoints import Checkpoint, read_weights
from generators.images import fetch_uint8
from generators.networks.restoration import gfpgan
from generators.registry import register
from generators.restorer import FaceRestorer, RestorationParameters, released_state
from generators.seeding import randn
from generators.transfer import send


@register("gfpgan")
class GFPGAN(FaceRestorer):
    title = "GFPGAN"
    licence = "Apache-2.0, with StyleGAN2 (NVIDIA, non-commercial) and DFDNet (CC-BY-NC-SA-4.0) parts"

    class Options(base.Options):
        input_is_latent: bool = True

    class Parameters(RestorationParameters):
        noise_mode: Literal["random", "const"] = "random"  # fresh noise from the image's seed, as in the official tool, or the stored noise

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> GFPGAN:
        latent = bool(checkpoint.option("input_is_latent", True))
        network = gfpgan.GFPGAN.from_state(released_state(read_weights(checkpoint.path)), checkpoint.path.name, latent)
        return cls(network, checkpoint, device, dtype)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Parameters) -> Output:
        return fetch_uint8(self.network(self._network_input(images), self._noise(seeds) if settings.noise_mode == "random" else None))

    def _noise(self, seeds: list[int]) -> list[torch.Tensor]:
        shapes = self.network.stylegan_decoder.noise_shapes()
        return [send(randn(seeds, shape, f"noise{index}"), self.device).to(self.dtype) for index, shape in enumerate(shapes)]

"""StyleGAN2 (Karras et al. 2020): NVIDIA's releases (PyTorch and TensorFlow pickles) and rosinality's PyTorch layout."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from generators.base import Generator, Output, Parameters
from generators.checkpoints import Checkpoint, read_weights
from generators.images import fetch_uint8, require_colours
from generators.networks.gan import stylegan2, stylegan2_layouts
from generators.registry import register
from generators.seeding import draw_classes, legacy_randn, torch_rng
from generators.transfer import send


class StyleGAN2Parameters(Parameters):
    truncation_psi: float = Field(1.0, ge=-1.0, le=2.0)
    truncation_cutoff: int | None = Field(None, ge=0)  # how many of the styles are truncated; all, if not given
    noise_mode: Literal["const", "none", "random"] = "const"
    class_index: int | None = Field(None, ge=0)  # of a conditional network; if not given, each image's class comes from its seed


@register("stylegan2")
class StyleGAN2(Generator):
    title = "StyleGAN2"
    family = "GAN"
    kinds = ("sample",)
    repeats = True
    released_precision = "float16"
    licence = "Nvidia Source Code License (non-commercial)"
    Parameters = StyleGAN2Parameters

    def __init__(self, network: stylegan2.Generator, device: str | torch.device, dtype: torch.dtype):
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.device, self.dtype = torch.device(device), dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> StyleGAN2:
        """Builds the network that the file holds; which layout it is comes from the names of its tensors. `dtype` below float32 is used at
        the four highest resolutions, as the official code does on a GPU."""
        network = stylegan2_layouts.build(read_weights(checkpoint.path), checkpoint.path)
        last = network.get_submodule(f"synthesis.b{network.img_resolution}")
        require_colours(len(last.torgb.bias), str(checkpoint.path))
        return cls(network, device, dtype)

    @property
    def resolution(self) -> int:
        return self.network.img_resolution

    def _sample(self, seeds: list[int], settings: StyleGAN2Parameters) -> Output:
        z = torch.from_numpy(np.stack([legacy_randn(seed, (self.network.z_dim,)) for seed in seeds])).float()
        generators = [torch_rng(seed, "noise") for seed in seeds] if settings.noise_mode == "random" else None
        images = self.network(
            send(z, self.device),
            self._labels(seeds, settings),
            truncation_psi=settings.truncation_psi,
            truncation_cutoff=settings.truncation_cutoff,
            noise_mode=settings.noise_mode,
            generators=generators,
            dtype=self.dtype,
        )
        return fetch_uint8(images, rounding="half_up")

    def _labels(self, seeds: list[int], settings: StyleGAN2Parameters) -> torch.Tensor | None:
        """One-hot classes `[N, c_dim]`, or None for a network without classes."""
        classes = draw_classes(seeds, self.network.c_dim, settings.class_index)
        return None if classes is None else send(torch.nn.functional.one_hot(classes, self.network.c_dim).float(), self.device)

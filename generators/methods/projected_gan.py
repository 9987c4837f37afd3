"""ProjectedGAN (Sauer et al. 2021), whose generator is FastGAN, FastGAN-lite or StyleGAN2; Diffusion-ProjectedGAN's files fit too."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from generators.base import Generator, Options, Output, Parameters
from generators.checkpoints import Checkpoint, Contents, read_weights
from generators.errors import CheckpointError, InputError
from generators.images import fetch_uint8, require_colours
from generators.methods.stylegan2 import StyleGAN2
from generators.networks.gan.fastgan import FastGAN, from_official
from generators.registry import register
from generators.seeding import draw_classes, legacy_randn, randn_rows, torch_rng
from generators.transfer import send


class ProjectedGANParameters(Parameters):
    noise: bool = True  # False leaves out the noise that the network adds to its feature maps
    truncation_psi: float = Field(1.0, ge=-1.0, le=2.0)  # of a StyleGAN2 network; FastGAN has no truncation
    class_index: int | None = Field(None, ge=0)  # of a conditional network; if not given, each image's class comes from its seed


class ProjectedGANOptions(Options):
    img_resolution: int | None = Field(None, ge=1)  # of a FastGAN file that does not say it


@register("projected_gan")
class ProjectedGAN(Generator):
    title = "ProjectedGAN"
    family = "GAN"
    kinds = ("sample",)
    repeats = True
    licence = "MIT"
    Parameters = ProjectedGANParameters
    Options = ProjectedGANOptions

    def __init__(self, network: FastGAN | StyleGAN2, device: str | torch.device, dtype: torch.dtype):
        if isinstance(network, FastGAN):
            network = network.eval().requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)
        self.network, self.device, self.dtype = network, torch.device(device), dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> ProjectedGAN:
        """Builds the network that the file holds, told by its tensors' names. A FastGAN file whose image is 32 px and that does not say so
        (a bare state dict) needs the option `img_resolution`."""
        contents = read_weights(checkpoint.path)
        for prefix in ("G_ema.", ""):
            if f"{prefix}synthesis.to_big.weight_orig" in contents.tensors:
                resolution = checkpoint.option("img_resolution", _stored(contents, prefix).get("img_resolution"))
                try:
                    network = from_official(contents.under(prefix), resolution)
                except KeyError as error:
                    raise CheckpointError(
                        f"{checkpoint.path} lacks {prefix}synthesis.{error.args[0]}", "It is not whole: fetch it again"
                    ) from None
                require_colours(network.to_rgb.out_channels, str(checkpoint.path))
                return cls(network, device, dtype)
        return cls(StyleGAN2.load(checkpoint, device, dtype), device, dtype)

    @property
    def resolution(self) -> int:
        return self.network.resolution

    def _sample(self, seeds: list[int], settings: ProjectedGANParameters) -> Output:
        if isinstance(self.network, StyleGAN2):
            stylegan2 = {"truncation_psi": settings.truncation_psi, "class_index": settings.class_index}
            return self.network._sample(seeds, StyleGAN2.Parameters(noise_mode="const" if settings.noise else "none", **stylegan2))
        if settings.truncation_psi != 1.0:
            raise InputError(f"{self.name}: truncation_psi {settings.truncation_psi}, but FastGAN has no truncation", "Leave it out")
        z = torch.from_numpy(np.stack([legacy_randn(seed, (self.network.z_dim,)) for seed in seeds]))
        streams = [torch_rng(seed, "noise") for seed in seeds]

        def noise(size: int) -> torch.Tensor:
            return send(randn_rows(streams, (1, size, size)), self.device)

        classes = draw_classes(seeds, self.network.classes, settings.class_index)
        classes = None if classes is None else send(classes, self.device)
        images = self.network(send(z.to(self.dtype), self.device), classes, noise if settings.noise else None)
        return fetch_uint8(images, rounding="half_up")


def _stored(contents: Contents, prefix: str) -> dict[str, Any]:
    """A stored module's attributes; empty for a bare state dict."""
    stored = contents.config.get(prefix.rstrip("."), {}) if prefix else contents.config
    return stored.get("attributes", {}) if isinstance(stored, dict) else {}

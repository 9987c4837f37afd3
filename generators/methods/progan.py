"""ProGAN (Karras et al. 2018): the authors' TensorFlow pickle, genforce's conversion of it, pytorch_GAN_zoo's own training, or our form."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from generators.base import Generator, Options, Output, Parameters
from generators.checkpoints import Checkpoint, read_weights
from generators.images import fetch_uint8, require_colours
from generators.networks.gan.progan import ProGAN as Network
from generators.networks.gan.progan_layouts import build
from generators.registry import register
from generators.seeding import draw_classes, legacy_randn
from generators.transfer import send


class ProGANParameters(Parameters):
    class_index: int | None = Field(None, ge=0)  # of a conditional network; if not given, each image's class comes from its seed


class ProGANOptions(Options):
    """What the tensors of some files cannot say; `generators.networks.gan.progan_layouts` says which file needs which."""

    lod: float | None = None
    alpha: float | None = None
    leak: float | None = None
    label_size: int | None = Field(None, ge=0)
    final_tanh: bool | None = None
    use_wscale: bool | None = None
    fused_scale: bool | None = None
    equalizedlR: bool | None = None  # noqa: N815 (pytorch_GAN_zoo names it so)
    leakyReluLeak: float | None = None  # noqa: N815
    use_pixelnorm: bool | None = None
    use_leakyrelu: bool | None = None
    normalize_latents: bool | None = None
    perChannelNormalization: bool | None = None  # noqa: N815


@register("progan")
class ProGAN(Generator):
    title = "ProGAN"
    family = "GAN"
    kinds = ("sample",)
    repeats = True
    licence = "CC-BY-NC-4.0"
    Parameters = ProGANParameters
    Options = ProGANOptions

    def __init__(self, network: Network, device: str | torch.device, dtype: torch.dtype):
        self.network = network.eval().requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)
        self.device, self.dtype = torch.device(device), dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> ProGAN:
        """Builds the network that the file holds, whose layout its tensors' names tell.

        `generators.networks.gan.progan_layouts` lists the options that some files need.
        """
        network = build(read_weights(checkpoint.path), checkpoint.path, checkpoint.options)
        require_colours(network.to_rgb[-1].out_channels, str(checkpoint.path))
        return cls(network, device, dtype)

    @property
    def resolution(self) -> int:
        return self.network.resolution

    def _sample(self, seeds: list[int], settings: ProGANParameters) -> Output:
        z = torch.from_numpy(np.stack([legacy_randn(seed, (self.network.z_dim,)) for seed in seeds]))
        z = send(z.to(self.dtype), self.device)
        classes = draw_classes(seeds, self.network.label_size, settings.class_index)
        labels = None if classes is None else send(F.one_hot(classes, self.network.label_size), self.device).to(z)
        return fetch_uint8(self.network(z, labels), rounding="half_up")

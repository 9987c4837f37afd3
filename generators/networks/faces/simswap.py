"""SimSwap's generator (Chen et al., "SimSwap: An Efficient Framework For High Fidelity Face Swapping", ACM MM 2020, section 3.2).

An encoder, residual blocks whose normalisation is steered by the source's identity (the identity injection module), a decoder.
The official release has three such generators, which differ in width and in their head:

============== ============================ ===== ==================================================
form           channels                     head  what it is
============== ============================ ===== ==================================================
fs_networks     64, 128, 256, 512            tanh  released 224 px model; takes and gives [0, 1]
fs_networks_512 32, 64, 128, 256, 512        tanh  released 512 px beta; takes and gives [0, 1]
fs_networks_fix 64, 128, 256, 512            raw   training code; takes and gives ImageNet-normalised
============== ============================ ===== ==================================================

Each may be "deep": one more stage of the last width. Stages are numbered `down1, down2, ...`, in fs_networks_512 from `down0`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from generators.errors import CheckpointError
from generators.networks.bilinear import BilinearUpConv
from generators.networks.state import fold_batch_norm, load_exactly
from generators.networks.winograd import WinogradConv

Form = Literal["fs_networks", "fs_networks_512", "fs_networks_fix"]
FORMS: tuple[Form, ...] = ("fs_networks", "fs_networks_512", "fs_networks_fix")
CHANNELS = {"fs_networks": (64, 128, 256, 512), "fs_networks_512": (32, 64, 128, 256, 512), "fs_networks_fix": (64, 128, 256, 512)}
WINOGRAD_CHANNELS = 256  # below, the transforms cost more than they save
NORM_EPS = 1e-8  # inside the square root of the instance normalisation


class SimSwapGenerator(nn.Module):
    """`forward(images, identity)`: targets float `[N, 3, H, W]`, H and W multiples of `2 ** (len(channels) - 1)`, and identity vectors
    `[N, latent_size]` of unit length, to swapped images of the same shape.

    `channels` are the stem's width and the width after each halving; `first_stage` is the number of the first halving in the keys.
    The "tanh" head gives [0, 1]; "raw" gives what the last convolution gives. Differentiable, so that it can be trained.
    """

    def __init__(
        self,
        channels: Sequence[int] = CHANNELS["fs_networks"],
        latent_size: int = 512,
        n_blocks: int = 9,
        head: Literal["tanh", "raw"] = "tanh",
        first_stage: int = 1,
    ):
        super().__init__()
        self.head = head
        self.stages = range(first_stage, first_stage + len(channels) - 1)
        stem = nn.Conv2d(3, channels[0], 7)
        self.first_layer = nn.Sequential(nn.ReflectionPad2d(3), stem, nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True))
        for stage, wide, narrow in zip(self.stages, channels[1:], channels[:-1], strict=True):
            halve = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
            restore = nn.Conv2d(wide, narrow, 3, padding=1)
            self.add_module(f"down{stage}", nn.Sequential(halve, nn.BatchNorm2d(wide), nn.ReLU(inplace=True)))
            upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.add_module(f"up{stage}", nn.Sequential(upsample, restore, nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)))
        self.BottleNeck = nn.ModuleList(IdentityBlock(channels[-1], latent_size) for _ in range(n_blocks))
        self.last_layer = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels[0], 3, 7))

    def forward(self, images: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        x = self.first_layer(images)
        for stage in self.stages:
            x = self.get_submodule(f"down{stage}")(x)
        for block in self.BottleNeck:
            x = block(x, identity)
        for stage in reversed(self.stages):
            x = self.get_submodule(f"up{stage}")(x)
        x = self.last_layer(x)
        return x if self.head == "raw" else (torch.tanh(x) + 1) / 2

    @classmethod
    def from_state(
        cls, state: Mapping[str, torch.Tensor], head: Literal["tanh", "raw"], source: str = "the checkpoint"
    ) -> SimSwapGenerator:
        """The network that `state` (official keys) belongs to, its widths and depth read off the shapes. CheckpointError if it is none."""
        stages = sorted(int(match[1]) for key in state if (match := re.fullmatch(r"down(\d+)\.0\.weight", key)))
        if not stages or "first_layer.1.weight" not in state:
            raise CheckpointError(f"{source} is not a SimSwap generator", "It should have first_layer.1.weight and down1.0.weight")
        channels = [len(state["first_layer.1.weight"]), *(len(state[f"down{stage}.0.weight"]) for stage in stages)]
        blocks = {key.split(".")[1] for key in state if key.startswith("BottleNeck.")}
        style = state.get("BottleNeck.0.style1.linear.weight")
        network = cls(channels, 512 if style is None else style.shape[1], len(blocks), head, stages[0])
        return load_exactly(network, state, source)

    def fold(self) -> SimSwapGenerator:
        """Itself in eval mode with every BatchNorm multiplied into its convolution: the same images up to rounding, for less work."""
        pairs = {"first_layer.1": "first_layer.2"}
        for stage in self.stages:
            pairs |= {f"down{stage}.0": f"down{stage}.1", f"up{stage}.1": f"up{stage}.2"}
        fold_batch_norm(self.eval(), pairs)
        return self

    def use_winograd(self) -> None:
        """Replaces the wide convolutions of the blocks and of the upsampling, most of all the work, by their Winograd form. For float32 on
        a CPU, after `fold`."""
        for block in self.BottleNeck:
            for conv in (block.conv1, block.conv2):
                if conv[1].in_channels >= WINOGRAD_CHANNELS:
                    conv[1] = WinogradConv(conv[1])
        for stage in self.stages:
            up = self.get_submodule(f"up{stage}")
            if up[1].in_channels >= WINOGRAD_CHANNELS:
                up[0], up[1] = nn.Identity(), BilinearUpConv(up[1])


class IdentityBlock(nn.Module):
    """Identity injection: two reflection-padded convolutions, each followed by adaptive instance normalisation (Eq. 1), around a ReLU;
    the input is added, and nothing follows the addition."""

    def __init__(self, channels: int, latent_size: int):
        super().__init__()
        self.conv1 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
        self.style1 = Style(channels, latent_size)
        self.conv2 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
        self.style2 = Style(channels, latent_size)

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.style1(self.conv1(x), identity))
        return x + self.style2(self.conv2(y), identity)


class Style(nn.Module):
    """Adaptive instance normalisation: (x - mean) / sqrt(var + 1e-8) * (1 + gamma) + beta over each map, variance biased."""

    def __init__(self, channels: int, latent_size: int):
        super().__init__()
        self.linear = nn.Linear(latent_size, 2 * channels)

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.linear(identity).chunk(2, dim=1)
        n, c, h, w = x.shape
        # Every map of every image is a channel of one batch norm over a batch of one: statistics, scale and shift in one pass.
        maps = x.reshape(1, n * c, h, w)
        out = F.batch_norm(maps, None, None, (1 + gamma).reshape(-1), beta.reshape(-1), training=True, eps=NORM_EPS)
        return out.reshape(n, c, h, w)

"""GFPGAN's "clean" network (Wang et al., "Towards Real-World Blind Face Restoration with Generative Facial Prior", CVPR 2021).

The versions 1.2, 1.3 and 1.4 are this network. A U-Net reads the damaged face. Its narrowest features become the styles of a StyleGAN2
decoder, and its features at each size steer that decoder. Tensors carry the names of the releases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from generators.errors import CheckpointError
from generators.networks.restoration.gfpgan_decoder import SLOPE, Decoder
from generators.networks.state import count, load_exactly

OTHER_NETWORKS = {"conv_body_first.0.weight": "GFPGANv1 (the paper's model)", "encoder.conv_in.weight": "RestoreFormer"}


class ResidualBlock(nn.Module):
    """Two convolutions with a bilinear change of size between them, and the same change on a 1x1 shortcut. The sum is not rescaled."""

    def __init__(self, before: int, after: int, factor: float):
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1)
        self.conv2 = nn.Conv2d(before, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1, bias=False)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self._resized(_activated(self.conv1(x)))
        return _activated(self.conv2(y)) + self.skip(self._resized(x))

    def _resized(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)


class GFPGAN(nn.Module):
    """`forward(faces)`: aligned RGB faces `[N, 3, S, S]` in [-1, 1] to restored ones, nominally in [-1, 1], with S = `size`.

    `widths` are the U-Net's channels at 4, 8, ..., S px, `decoder_widths` the decoder's. With `different_w` each layer of the decoder has a
    style of its own. With `input_is_latent` the styles go to the layers as they are, and else through the style network first.
    """

    def __init__(
        self,
        widths: Sequence[int],
        decoder_widths: Sequence[int],
        num_style_feat: int,
        num_mlp: int,
        different_w: bool,
        sft_half: bool,
        input_is_latent: bool = True,
    ):
        super().__init__()
        self.size = 4 * 2 ** (len(widths) - 1)
        self.num_style_feat = num_style_feat
        self.input_is_latent = input_is_latent
        falling = list(reversed(widths))
        self.conv_body_first = nn.Conv2d(3, falling[0], 1)
        self.conv_body_down = nn.ModuleList(ResidualBlock(*pair, 0.5) for pair in pairwise(falling))
        self.final_conv = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.stylegan_decoder = Decoder(decoder_widths, num_style_feat, num_mlp, sft_half)
        styles = self.stylegan_decoder.style_count if different_w else 1
        self.final_linear = nn.Linear(widths[0] * 16, styles * num_style_feat)
        self.conv_body_up = nn.ModuleList(ResidualBlock(*pair, 2) for pair in pairwise(widths))
        steered = [width if sft_half else 2 * width for width in widths[1:]]
        self.condition_scale = nn.ModuleList(_condition(*pair) for pair in zip(widths[1:], steered, strict=True))
        self.condition_shift = nn.ModuleList(_condition(*pair) for pair in zip(widths[1:], steered, strict=True))
        self.toRGB = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths[1:])  # for training alone

    def forward(self, faces: torch.Tensor, noise: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        styles, features = self.read(faces)
        conditions = [(scale(x), shift(x)) for x, scale, shift in zip(features, self.condition_scale, self.condition_shift, strict=True)]
        return self.stylegan_decoder(styles, conditions, noise)

    def read(self, faces: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the U-Net sees in faces: the styles `[N, style_count, num_style_feat]`, and features at 8, 16, ... px."""
        x = _activated(self.conv_body_first(faces))
        skips = []
        for down in self.conv_body_down:
            x = down(x)
            skips.append(x)
        x = _activated(self.final_conv(x))
        styles = self.final_linear(x.flatten(1)).view(len(x), -1, self.num_style_feat)
        if not self.input_is_latent:
            styles = self.stylegan_decoder.style_mlp(styles.flatten(0, 1)).view_as(styles)
        features = []
        for up, skip in zip(self.conv_body_up, reversed(skips), strict=True):
            x = up(x + skip)
            features.append(x)
        return styles.expand(-1, self.stylegan_decoder.style_count, -1), features

    def early_pictures(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """The rough pictures at 8, 16, ... px that training compares with the truth."""
        return [to_rgb(x) for to_rgb, x in zip(self.toRGB, self.read(faces)[1], strict=True)]

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], source: str = "the checkpoint", input_is_latent: bool = True) -> GFPGAN:
        """The network of a state dict, all sizes read off it. Raises CheckpointError if it is another network."""
        for key, name in OTHER_NETWORKS.items():
            if key in state:
                raise CheckpointError(
                    f"{source} holds {name}, which is another network", "Use GFPGANv1.3.pth, GFPGANv1.4.pth or GFPGANCleanv1-NoCE-C2.pth"
                )
        sizes = count(state, r"conv_body_down\.(\d+)\.")
        try:
            widths = [len(state["conv_body_first.bias"])]
            widths += [len(state[f"conv_body_down.{index}.conv2.bias"]) for index in range(sizes)]
            widths.reverse()
            decoder = "stylegan_decoder"
            decoder_widths = [state[f"{decoder}.constant_input.weight"].shape[1]]
            decoder_widths += [state[f"{decoder}.style_convs.{2 * index}.bias"].shape[1] for index in range(sizes)]
            num_style_feat = state[f"{decoder}.style_conv1.modulated_conv.modulation.weight"].shape[1]
            different_w = len(state["final_linear.bias"]) > num_style_feat
            sft_half = len(state["condition_scale.0.2.bias"]) < decoder_widths[1]
        except (KeyError, IndexError):
            raise CheckpointError(
                f"{source} is no GFPGAN", "It should have conv_body_down.0.* and stylegan_decoder.*, as GFPGANv1.4.pth has"
            ) from None
        num_mlp = count(state, rf"{decoder}\.style_mlp\.(\d+)\.")
        with torch.device("meta"):
            network = cls(widths, decoder_widths, num_style_feat, num_mlp, different_w, sft_half, input_is_latent)
        return load_exactly(network.to_empty(device="cpu"), state, source)


def _condition(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, before, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(before, after, 3, padding=1))


def _activated(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)

"""VQGAN's first stage (Esser et al. 2021, section 3.1): an image to a grid of codes, and back.

Tensors carry the names of CompVis' taming-transformers. Nearest upsampling is part of the convolution after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.upsample import UpsamplingConv

# the CelebA-HQ and FFHQ releases
OFFICIAL_SIZES = {
    "vqgan-256": {
        "first_stage": {
            "ch": 128,
            "ch_mult": (1, 1, 2, 2, 4),
            "num_res_blocks": 2,
            "attn_levels": (4,),
            "z_channels": 256,
            "embed_dim": 256,
            "n_embed": 1024,
        },
        "transformer": {"vocab_size": 1024, "block_size": 256, "n_layer": 24, "n_head": 16, "n_embd": 1664},
    }
}


@dataclass(frozen=True)
class FirstStageConfig:
    """`ch * ch_mult[i]` channels at 1 / 2**i of the resolution; `attn_levels` are those with attention; `embed_dim` is the length of a code
    vector, `n_embed` their number."""

    ch: int
    ch_mult: Sequence[int]
    num_res_blocks: int
    attn_levels: Sequence[int]
    z_channels: int
    embed_dim: int
    n_embed: int
    in_channels: int = 3
    out_ch: int = 3
    resamp_with_conv: bool = True

    def widths(self) -> list[int]:
        return [self.ch * factor for factor in self.ch_mult]


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        return h.add_(self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Attention between all positions, with one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, height, width = x.shape
        h = self.norm(x)
        q, k, v = (layer(h).permute(0, 2, 3, 1).reshape(n, 1, height * width, c) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(y.view(n, height, width, c).permute(0, 3, 1, 2))


class Downsample(nn.Module):
    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2) if with_conv else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2) if self.conv is None else self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = UpsamplingConv(channels, channels) if with_conv else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.conv is None else self.conv(x)


class Level(nn.Module):
    """The blocks at one resolution, and then the step to the next resolution, if there is one."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, attention: bool, resample: dict[str, nn.Module]):
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(out_channels if index else in_channels, out_channels) for index in range(blocks))
        self.attn = nn.ModuleList(AttnBlock(out_channels) for _ in range(blocks if attention else 0))
        self.resample = next(iter(resample), None)
        for name, module in resample.items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        return x if self.resample is None else self.get_submodule(self.resample)(x)


class Middle(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = ResnetBlock(channels, channels), AttnBlock(channels), ResnetBlock(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, config: FirstStageConfig):
        super().__init__()
        widths = config.widths()
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            step = {} if last else {"downsample": Downsample(width, config.resamp_with_conv)}
            before = widths[level - 1] if level else config.ch
            self.down.append(Level(before, width, config.num_res_blocks, level in config.attn_levels, step))
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = _norm(widths[-1]), nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x)), inplace=True))


class Decoder(nn.Module):
    def __init__(self, config: FirstStageConfig):
        super().__init__()
        widths = config.widths()
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()  # by resolution, the finest first; run in the opposite order
        for level, width in enumerate(widths):
            step = {"upsample": Upsample(width, config.resamp_with_conv)} if level else {}
            before = widths[min(level + 1, len(widths) - 1)]
            self.up.append(Level(before, width, config.num_res_blocks + 1, level in config.attn_levels, step))
        self.norm_out, self.conv_out = _norm(widths[0]), nn.Conv2d(widths[0], config.out_ch, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x), inplace=True))


class Codebook(nn.Module):
    def __init__(self, n_embed: int, embed_dim: int):
        super().__init__()
        self.embedding = nn.Embedding(n_embed, embed_dim)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """For each position of `z` `[N, embed_dim, H, W]` the nearest code (equation 2): `[N, H * W]`, row by row. Distances are in
        float32: in half precision codes that are near each other are equally far."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2).float()
        weight = self.embedding.weight.float()
        distances = flat.square().sum(1, keepdim=True) + weight.square().sum(1) - 2 * flat @ weight.T
        return distances.argmin(1).view(len(z), -1)


class FirstStage(nn.Module):
    def __init__(self, config: FirstStageConfig):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = Codebook(config.n_embed, config.embed_dim)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)
        self.factor = 2 ** (len(config.ch_mult) - 1)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """`[N, 3, H, W]` in [-1, 1] to what is quantised, `[N, embed_dim, H / factor, W / factor]`."""
        return self.quant_conv(self.encoder(images))

    def decode(self, codes: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Codes `[N, height * width]`, row by row, to images `[N, 3, height * factor, width * factor]`, nominally in [-1, 1]."""
        z = self.quantize.embedding(codes).view(len(codes), height, width, -1).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(z))

"""FastGAN's generator (Liu et al. 2021) as ProjectedGAN (Sauer et al. 2021) uses it, in the form that inference needs.

Spectral norms and batch norms are part of the convolutions, and nearest upsampling is part of the convolution after it; `from_official`
folds a released state dict into this form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.upsample import UpsamplingConv, upsampling_kernel

Tensors = Mapping[str, torch.Tensor]
NoiseSource = Callable[[int], torch.Tensor]

SKIPS = {64: 4, 128: 8, 256: 16, 512: 32}  # resolution whose channels are excited by those of a smaller one
BATCH_NORM_EPS = 1e-5

# channels of `ngf` 128 at 4, 8, ... 256 px, as the released networks have them
OFFICIAL_SIZES = {
    "fastgan-256": {"z_dim": 256, "widths": (2048, 1024, 512, 256, 256, 128, 64), "lite": False},
    "fastgan-lite-256": {"z_dim": 256, "widths": (2048, 1024, 512, 256, 256, 128, 64), "lite": True},
}


class GatedConv(nn.Module):
    """A convolution to twice `out_channels`, noise added, modulated by a class, halved by a gated linear unit."""

    def __init__(self, in_channels: int, out_channels: int, upsample: bool, noisy: bool, condition_dim: int):
        super().__init__()
        double = 2 * out_channels
        self.conv = UpsamplingConv(in_channels, double) if upsample else nn.Conv2d(in_channels, double, 3, padding=1)
        self.noise_strength = nn.Parameter(torch.zeros(double)) if noisy else None
        self.gain = nn.Linear(condition_dim, double) if condition_dim else None
        self.shift = nn.Linear(condition_dim, double) if condition_dim else None

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None, noise: NoiseSource | None) -> torch.Tensor:
        x = self.conv(x)
        if self.noise_strength is not None and noise is not None:
            x = x.addcmul_(noise(x.shape[-1]).to(x), self.noise_strength[:, None, None])
        if self.gain is not None and self.shift is not None:
            x = x * self.gain(condition)[:, :, None, None] + self.shift(condition)[:, :, None, None]
        return F.glu(x, dim=1)


class Excitation(nn.Module):
    """Scales each channel of `large` by what the smaller map `small`, seen as 4x4 pixels, says of it."""

    def __init__(self, small: int, large: int):
        super().__init__()
        self.squeeze = nn.Conv2d(small, large, 4, bias=False)
        self.excite = nn.Conv2d(large, large, 1, bias=False)

    def forward(self, small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
        return large * self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(small, 4)))).sigmoid()


class FastGAN(nn.Module):
    """`widths[i]` channels at `4 * 2**i` px; a `lite` network has one convolution and no noise at each doubling, a full one two of each.
    With `classes` above 0 the network is conditional."""

    def __init__(self, z_dim: int, widths: Sequence[int], image_channels: int = 3, lite: bool = False, classes: int = 0):
        super().__init__()
        self.z_dim, self.lite, self.classes, self.resolution = z_dim, lite, classes, 4 * 2 ** (len(widths) - 1)
        self.dense = nn.Linear(z_dim, 2 * widths[0] * 16)
        self.embed = nn.Embedding(classes, z_dim) if classes else None
        self.ups, self.convs, self.skips = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        channels = {4 * 2**level: width for level, width in enumerate(widths)}
        condition_dim = z_dim if classes else 0
        for size, width in list(channels.items())[1:]:
            self.ups[str(size)] = GatedConv(channels[size // 2], width, True, not lite, condition_dim)
            if not lite:
                self.convs[str(size)] = GatedConv(width, width, False, True, condition_dim)
            if size in SKIPS:
                self.skips[str(size)] = Excitation(channels[SKIPS[size]], width)
        self.to_rgb = nn.Conv2d(widths[-1], image_channels, 3, padding=1)

    def forward(self, z: torch.Tensor, classes: torch.Tensor | None = None, noise: NoiseSource | None = None) -> torch.Tensor:
        """Images `[N, image_channels, R, R]`, nominally in [-1, 1] and not clamped, of latents `[N, z_dim]` from N(0, 1) and, for a
        conditional network, classes `[N]` (int64). `noise(size)` gives `[N, 1, size, size]` from N(0, 1), called for each convolution in
        turn, from coarse to fine; without it no noise is added."""
        condition = None if self.embed is None else self.embed(classes)
        z = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        x = self.dense(z).view(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        x = F.glu(x, dim=1)
        small = {4: x}
        for key, up in self.ups.items():
            size = int(key)
            x = up(x, condition, noise)
            if key in self.convs:
                x = self.convs[key](x, condition, noise)
            if key in self.skips:
                x = self.skips[key](small[SKIPS[size]], x)
            elif size <= SKIPS[512]:
                small[size] = x
        return self.to_rgb(x)


def from_official(tensors: Tensors, resolution: int | None = None) -> FastGAN:
    """The network of a released state dict, under the names of projected-gan's `pg_modules.networks_fastgan.Generator`.

    `resolution` is needed only to tell a 32 px network from one of 64 px. Blocks that a network of its size does not use are left out.
    Raises KeyError for a missing tensor.
    """
    t = {name.removeprefix("synthesis."): value.float() for name, value in tensors.items() if name.startswith("synthesis.")}
    resolution = resolution or _resolution(t)
    conditional = "embed.weight" in t
    scale, shift = _batch_norm(t, "init.init.1", affine=True)
    first = _weight(t, "init.init.0", dim=1)  # [z_dim, 2 * width, 4, 4], transposed and laid on a single pixel: an affine map
    state = {"dense.weight": (first * scale[:, None, None]).flatten(1).T, "dense.bias": shift.repeat_interleave(16)}
    widths = [first.shape[1] // 2]
    lite = False
    for size in (2**power for power in range(3, resolution.bit_length())):
        layers = _layers(t, f"feat_{size}")
        lite = len(layers) == 1
        for group, names in zip(("ups", "convs"), layers, strict=False):
            gated = _gated(t, *names, conditional, upsample=group == "ups")
            state |= {f"{group}.{size}.{name}": value for name, value in gated.items()}
        if size in SKIPS:
            state[f"skips.{size}.squeeze.weight"] = _weight(t, f"se_{size}.main.1")
            state[f"skips.{size}.excite.weight"] = _weight(t, f"se_{size}.main.3")
        widths.append(len(state[f"ups.{size}.conv.bias"]) // 2)
    state |= {"to_rgb.weight": _weight(t, "to_big"), "to_rgb.bias": t["to_big.bias"]}
    if conditional:
        state["embed.weight"] = t["embed.weight"]
    network = FastGAN(first.shape[0], widths, len(t["to_big.bias"]), lite, len(t["embed.weight"]) if conditional else 0)
    network.load_state_dict(state)
    return network


def _layers(t: Tensors, block: str) -> list[tuple[str, str | None, str]]:
    """The names of convolution, noise and norm, for each convolution of a block; both of a conditional block share one noise strength."""
    present = {name.removeprefix(f"{block}.").partition(".")[0] for name in t if name.startswith(f"{block}.")}
    if "conv1" in present:
        return [(f"{block}.conv{number}", f"{block}.noise", f"{block}.bn{number}") for number in (1, 2)]
    if "conv" in present:
        return [(f"{block}.conv", None, f"{block}.bn")]
    if "5" in present:
        return [(f"{block}.{number}", f"{block}.{number + 1}", f"{block}.{number + 2}") for number in (1, 5)]
    return [(f"{block}.1", None, f"{block}.2")]


def _gated(t: Tensors, conv: str, noise: str | None, norm: str, conditional: bool, upsample: bool) -> dict[str, torch.Tensor]:
    """The tensors of one `GatedConv`: the norm's statistics (without classes, its affine map too) go into the convolution and the noise."""
    scale, shift = _batch_norm(t, norm, affine=not conditional)
    weight = _weight(t, conv) * scale[:, None, None, None]
    tensors = {"conv.weight": upsampling_kernel(weight) if upsample else weight, "conv.bias": shift}
    if noise:
        tensors["noise_strength"] = t[f"{noise}.weight"] * scale
    if conditional:
        tensors |= {"gain.weight": _weight(t, f"{norm}.gain"), "gain.bias": t[f"{norm}.gain.bias"] + 1}
        tensors |= {"shift.weight": _weight(t, f"{norm}.bias"), "shift.bias": t[f"{norm}.bias.bias"]}
    return tensors


def _batch_norm(t: Tensors, name: str, affine: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift `[C]` of a batch norm in eval mode; a conditional one has its affine map elsewhere."""
    if not affine:
        scale = (t[f"{name}.stored_var"] + BATCH_NORM_EPS).rsqrt()
        return scale, -t[f"{name}.stored_mean"] * scale
    scale = t[f"{name}.weight"] * (t[f"{name}.running_var"] + BATCH_NORM_EPS).rsqrt()
    return scale, t[f"{name}.bias"] - t[f"{name}.running_mean"] * scale


def _weight(t: Tensors, name: str, dim: int = 0) -> torch.Tensor:
    """A weight under spectral norm (Miyato et al. 2018), by the stored vectors u and v: W / (u^T W v), W with `dim` first and flattened."""
    weight = t[f"{name}.weight_orig"]
    return weight / (t[f"{name}.weight_u"] @ (weight.transpose(0, dim).flatten(1) @ t[f"{name}.weight_v"]))


def _resolution(t: Tensors) -> int:
    """The largest resolution whose block gives as many channels as the last convolution takes."""
    channels = {}
    for size in (32, 64, 128, 256, 512, 1024):
        conv = _layers(t, f"feat_{size}")[0][0]
        if f"{conv}.weight_orig" in t:
            channels[size] = len(t[f"{conv}.weight_orig"]) // 2
    largest = max(channels)
    return largest if largest > 256 else max(size for size in channels if channels[size] == t["to_big.weight_orig"].shape[1])

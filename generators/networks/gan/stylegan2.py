"""StyleGAN2's generator (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, sections 2 and 4; with labels and
the training fixes of "Training Generative Adversarial Networks with Limited Data", 2020).

Tensors carry the names of NVIDIA's PyTorch releases. One convolution serves a whole batch: the styles scale its input and the demodulation
its output, which is the same as scaling the weights for each image (equations 1 to 3). Activations are laid out channels-last, which the
convolutions are fastest with, on a CPU as on a GPU. Without gradients, what comes between two convolutions is computed in place: the first
touch of fresh memory costs a CPU more than the arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from generators.networks.resample import make_filter, smooth, upsample2
from generators.seeding import randn_rows
from generators.transfer import send

Architecture = Literal["skip", "orig", "resnet"]
NoiseMode = Literal["const", "none", "random"]
SQRT2 = math.sqrt(2.0)
ACTIVATIONS = {"lrelu": (0.2, SQRT2), "relu": (0.0, SQRT2), "linear": (1.0, 1.0)}  # negative slope, gain


def normalize_2nd_moment(x: torch.Tensor) -> torch.Tensor:
    """Each row `[N, C]` scaled to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class FullyConnected(nn.Module):
    """A linear layer with a run-time weight scale: weights are stored as N(0, 1) / `lr_multiplier`."""

    def __init__(
        self, in_features: int, out_features: int, *, activation: str = "linear", lr_multiplier: float = 1.0, bias_init: float = 0.0
    ):
        super().__init__()
        self.negative_slope, self.act_gain = ACTIVATIONS[activation]
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return x if self.negative_slope == 1 else F.leaky_relu(x, self.negative_slope) * self.act_gain


class Mapping(nn.Module):
    """z `[N, z_dim]`, and a label c `[N, c_dim]` if there are classes, to the styles w `[N, num_ws, w_dim]`."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        *,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.998,
    ):
        super().__init__()
        self.num_ws, self.num_layers, self.w_avg_beta, self.c_dim = num_ws, num_layers, w_avg_beta, c_dim
        embedded = (embed_features or w_dim) if c_dim else 0
        if c_dim:
            self.embed = FullyConnected(c_dim, embedded)
        widths = [z_dim + embedded] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"fc{index}", FullyConnected(before, after, activation=activation, lr_multiplier=lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = False,
    ) -> torch.Tensor:
        """`truncation_psi` pulls the first `truncation_cutoff` styles (all, if None) towards their mean `w_avg`. `update_w_avg` is for
        training: it moves the mean towards this batch's."""
        x = normalize_2nd_moment(z.float())
        if self.c_dim:
            assert c is not None
            x = torch.cat([x, normalize_2nd_moment(self.embed(c.float()))], 1)
        for index in range(self.num_layers):
            x = getattr(self, f"fc{index}")(x)
        if update_w_avg and self.w_avg_beta is not None:
            self.w_avg.copy_(x.detach().mean(0).lerp(self.w_avg, self.w_avg_beta))
        ws = x.unsqueeze(1).expand(-1, self.num_ws, -1)
        if truncation_psi == 1:
            return ws
        cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
        return torch.cat([self.w_avg.lerp(ws[:, :cutoff], truncation_psi), ws[:, cutoff:]], 1)


class StyledConv(nn.Module):
    """A 3x3 convolution modulated and demodulated by w, noise, bias and leaky ReLU; doubles the resolution where `up` says so."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        *,
        up: bool = False,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.resolution, self.up, self.use_noise, self.conv_clamp = resolution, up, use_noise, conv_clamp
        self.negative_slope, self.act_gain = ACTIVATIONS[activation]
        self.register_buffer("resample_filter", make_filter(resample_filter))
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        noise_mode: NoiseMode = "const",
        generators: Sequence[torch.Generator] | None = None,
        *,
        gain: float = 1.0,
    ) -> torch.Tensor:
        styles, weight = self.affine(w), self.weight
        if x.dtype == torch.float16:  # keeps half precision in range; the demodulation takes both factors out again
            weight = weight / weight.abs().amax((1, 2, 3), keepdim=True) / math.sqrt(weight[0].numel())
            styles = styles / styles.abs().amax(1, keepdim=True)
        demodulation = (styles.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = self._convolve(_scaled(x, styles.to(x.dtype)[:, :, None, None]), weight.to(x.dtype))
        # The gain after the activation is positive, so it may be taken before it, folded into what is small.
        total_gain = gain * self.act_gain
        offset = (self.bias * total_gain)[None, None, None]
        noise = self._noise(x, noise_mode, generators)
        if noise is not None:
            offset = noise[..., None] * (self.noise_strength * total_gain) + offset  # [1 or N, R, R, C]: channels last, as x is
        x = _scaled(x, (demodulation * total_gain).to(x.dtype)[:, :, None, None], offset.to(x.dtype).permute(0, 3, 1, 2))
        x = F.leaky_relu(x, self.negative_slope, inplace=True)
        if self.conv_clamp is None:
            return x
        return (x.clamp if x.requires_grad else x.clamp_)(-self.conv_clamp * gain, self.conv_clamp * gain)

    def _convolve(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if not self.up:
            return F.conv2d(x, weight, padding=1)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        taps = self.resample_filter.shape[-1]
        return smooth(x, self.resample_filter, gain=4.0, padding=((taps - 1) // 2, (taps - 2) // 2))

    def _noise(self, x: torch.Tensor, mode: NoiseMode, generators: Sequence[torch.Generator] | None) -> torch.Tensor | None:
        """`[1 or N, R, R]`, or None without noise."""
        if not self.use_noise or mode == "none":
            return None
        if mode == "const":
            return self.noise_const[None]
        shape = (self.resolution, self.resolution)
        if generators is None:
            return torch.randn(len(x), *shape, device=x.device)
        return send(randn_rows(generators, shape), x.device)


def _scaled(x: torch.Tensor, factors: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    """`x * factors + offset`, in the memory of `x` unless one of them needs a gradient."""
    kept = any(tensor.requires_grad for tensor in (x, factors, offset) if tensor is not None)
    if offset is None:
        return x * factors if kept else x.mul_(factors)
    return torch.addcmul(offset, x, factors) if kept else torch.addcmul(offset, x, factors, out=x)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution without demodulation, to colours."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        styles = self.affine(w) * self.weight_gain
        # So few output channels that one small product for each image is cheaper than scaling the whole input.
        weight = self.weight[:, :, 0, 0] * styles[:, None, :]
        colours = torch.baddbmm(self.bias.to(x.dtype)[:, None], weight.to(x.dtype), x.flatten(2)).unflatten(2, x.shape[2:])
        return colours if self.conv_clamp is None else colours.clamp(-self.conv_clamp, self.conv_clamp)


class Shortcut(nn.Module):
    """The residual architecture's way past a block: a 1x1 convolution without bias, then upsampling (they commute; this is cheaper)."""

    def __init__(self, in_channels: int, out_channels: int, resample_filter: Sequence[float] = (1, 3, 3, 1)):
        super().__init__()
        self.register_buffer("resample_filter", make_filter(resample_filter))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: torch.Tensor, gain: float) -> torch.Tensor:
        return upsample2(F.conv2d(x, (self.weight * (self.weight_gain * gain)).to(x.dtype)), self.resample_filter)


class Block(nn.Module):
    """One resolution: two styled convolutions (one after a learned constant at 4x4) and, where the architecture asks, colours."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        *,
        is_last: bool,
        architecture: Architecture = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        **layer_kwargs: Any,
    ):
        super().__init__()
        self.is_first, self.is_residual, self.has_rgb = in_channels == 0, architecture == "resnet", is_last or architecture == "skip"
        self.num_conv = 1 if self.is_first else 2
        self.register_buffer("resample_filter", make_filter(resample_filter))
        layer_kwargs |= {"conv_clamp": conv_clamp}
        if self.is_first:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = StyledConv(in_channels, out_channels, w_dim, resolution, up=True, resample_filter=resample_filter, **layer_kwargs)
        self.conv1 = StyledConv(out_channels, out_channels, w_dim, resolution, **layer_kwargs)
        if self.has_rgb:
            self.torgb = ToRGB(out_channels, img_channels, w_dim, conv_clamp)
        if not self.is_first and self.is_residual:
            self.skip = Shortcut(in_channels, out_channels, resample_filter)

    def forward(
        self, x: torch.Tensor | None, img: torch.Tensor | None, ws: Sequence[torch.Tensor], dtype: torch.dtype, **noise: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`ws`: one style for each convolution, then one for the colours. Computes in `dtype`; the colours are summed in float32.
        Without gradients, `x` is overwritten."""
        styles = iter(ws)
        if self.is_first:
            # A copy even of one image, because the first convolution scales it in place.
            x = self.const.to(dtype).expand(len(ws[0]), -1, -1, -1).clone(memory_format=torch.channels_last)
            x = self.conv1(x, next(styles), **noise)
        elif self.is_residual:
            assert x is not None
            x = x.to(dtype)
            past = self.skip(x, gain=math.sqrt(0.5))
            x = past + self.conv1(self.conv0(x, next(styles), **noise), next(styles), gain=math.sqrt(0.5), **noise)
        else:
            assert x is not None
            x = self.conv1(self.conv0(x.to(dtype), next(styles), **noise), next(styles), **noise)
        if img is not None:
            img = upsample2(img, self.resample_filter)
        if self.has_rgb:
            colours = self.torgb(x, next(styles)).float()
            img = colours if img is None else img + colours
        return x, img


class Synthesis(nn.Module):
    """Styles `[N, num_ws, w_dim]` to images `[N, img_channels, R, R]`, nominally in [-1, 1]."""

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        **block_kwargs: Any,
    ):
        super().__init__()
        powers = int(math.log2(img_resolution))
        self.resolutions = [2**power for power in range(2, powers + 1)]
        self.num_ws = 2 * len(self.resolutions)
        # Where half precision begins, if it is asked for: at the highest resolutions alone, four if the configuration names none.
        self.half_from = max(2 ** (powers + 1 - (num_fp16_res or 4)), 8)
        in_channels = 0
        for resolution in self.resolutions:
            out_channels = min(channel_base // resolution, channel_max)
            block = Block(in_channels, out_channels, w_dim, resolution, img_channels, is_last=resolution == img_resolution, **block_kwargs)
            self.add_module(f"b{resolution}", block)
            in_channels = out_channels

    def forward(
        self,
        ws: torch.Tensor,
        *,
        noise_mode: NoiseMode = "const",
        generators: Sequence[torch.Generator] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """`noise_mode` "random" draws each image's noise from its own CPU generator, or from the global stream if there are none.
        `dtype` below float32 is used at the highest resolutions alone."""
        x = img = None
        styles = ws.float().unbind(1)
        start = 0
        for resolution in self.resolutions:
            block = getattr(self, f"b{resolution}")
            block_dtype = dtype if resolution >= self.half_from else torch.float32
            x, img = block(x, img, styles[start:], block_dtype, noise_mode=noise_mode, generators=generators)
            start += block.num_conv
        return img


class Generator(nn.Module):
    """The whole generator, with the arguments of NVIDIA's classes: `Generator(**config)` takes what a released file says of itself."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        *,
        mapping_kwargs: dict[str, Any] | None = None,
        **synthesis_kwargs: Any,
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.img_resolution = z_dim, c_dim, w_dim, img_resolution
        self.synthesis = Synthesis(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.mapping = Mapping(z_dim, c_dim, w_dim, self.synthesis.num_ws, **(mapping_kwargs or {}))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        **synthesis_kwargs: Any,
    ) -> torch.Tensor:
        """z `[N, z_dim]` and one-hot labels c `[N, c_dim]` to float32 images `[N, img_channels, R, R]`, nominally in [-1, 1]."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)

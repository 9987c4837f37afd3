"""EfficientNet (Tan and Le 2019) and EfficientNet-Lite as TensorFlow pads them, under the key names of the `efficientnet_pytorch` package.

EfficientNet-Lite (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, March 2020) is made for phones. It
differs in four things: no squeeze and excitation, ReLU6 for swish, a stem and head that do not grow with the width, and as many blocks in
the first and last stage whatever the depth.

transformers' EfficientNet is not used: it pads odd maps wrongly unless told which they are, drops single values instead of whole branches,
and takes TensorFlow's momentum (0.99) for torch's (0.01), which matters as soon as it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ntf_model.networks.recompute import recomputed

# width, depth, dropout (Tan and Le 2019, table of the released models)
SCALES = {
    "efficientnet-b0": (1.0, 1.0, 0.2),
    "efficientnet-b1": (1.0, 1.1, 0.2),
    "efficientnet-b2": (1.1, 1.2, 0.3),
    "efficientnet-b3": (1.2, 1.4, 0.3),
    "efficientnet-b4": (1.4, 1.8, 0.4),
    "efficientnet-b5": (1.6, 2.2, 0.4),
    "efficientnet-b6": (1.8, 2.6, 0.5),
    "efficientnet-b7": (2.0, 3.1, 0.5),
    "efficientnet-lite0": (1.0, 1.0, 0.2),
}
LITE = "efficientnet-lite"
# expansion, channels, repeats, stride, kernel (Tan and Le 2019, Table 1)
STAGES = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]
DROP_CONNECT = 0.2
BATCH_NORM = {"eps": 1e-3, "momentum": 0.01}


def round_channels(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8 that is not more than 10 % below."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class SamePaddedConv(nn.Conv2d):
    """TensorFlow's SAME: the output has ceil(size / stride) positions, and an odd pixel of padding goes to the right and below."""

    fixed: tuple[int, int] | None = None  # padding above (left) and below (right), whatever the input

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        (above, below), (left, right) = (self.fixed or same_padding(size, kernel, stride) for size in x.shape[-2:])
        return super().forward(F.pad(x, (left, right, above, below)) if above or below or left or right else x)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after a side of `size`."""
    missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


def activation(lite: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Swish, or what EfficientNet-Lite has in its place."""
    return F.relu6 if lite else F.silu


class Block(nn.Module):
    """Inverted residual, with squeeze and excitation unless it is `lite`. `drop` is the chance of leaving out the branch for a whole
    picture in training."""

    def __init__(self, before: int, after: int, expansion: int, stride: int, kernel: int, drop: float, lite: bool = False):
        super().__init__()
        inner, squeezed = before * expansion, max(1, before // 4)
        if expansion != 1:
            self._expand_conv = SamePaddedConv(before, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, **BATCH_NORM)
        self._depthwise_conv = SamePaddedConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, **BATCH_NORM)
        if not lite:
            self._se_reduce = SamePaddedConv(inner, squeezed, 1)
            self._se_expand = SamePaddedConv(squeezed, inner, 1)
        self._project_conv = SamePaddedConv(inner, after, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(after, **BATCH_NORM)
        self.expands, self.skips, self.drop, self.lite = expansion != 1, stride == 1 and before == after, drop, lite
        self.activation = activation(lite)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.activation(self._bn0(self._expand_conv(x))) if self.expands else x
        out = self.activation(self._bn1(self._depthwise_conv(out)))
        if not self.lite:
            weight = self._se_expand(F.silu(self._se_reduce(F.adaptive_avg_pool2d(out, 1))))
            out = torch.sigmoid(weight) * out
        out = self._bn2(self._project_conv(out))
        if not self.skips:
            return out
        if self.training and self.drop:
            kept = (torch.rand(len(out), 1, 1, 1, device=out.device) >= self.drop).to(out.dtype)
            out = out * kept / (1 - self.drop)
        return out + x


class EfficientNet(nn.Module):
    """`name` as in SCALES. Key names and parameter counts are those of efficientnet_pytorch 0.7.1.

    With `image_size` every layer pads as it would for a picture of that size, even if it gets another one; that package does so too. It
    makes a difference where a map has an odd side. Without, each layer pads for what it gets.

    Where `recomputes` is true, training keeps only what goes into each block, and computes the block again for its gradient.
    """

    recomputes = False

    def __init__(self, name: str = "efficientnet-b4", outputs: int = 2, image_size: int | None = None):
        super().__init__()
        width, depth, dropout = SCALES[name]
        lite = name.startswith(LITE)
        self.activation = activation(lite)
        stem = 32 if lite else round_channels(32, width)
        self._conv_stem = SamePaddedConv(3, stem, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(stem, **BATCH_NORM)
        plan, before = [], stem
        for stage, (expansion, channels, repeats, stride, kernel) in enumerate(STAGES):
            after = round_channels(channels, width)
            fixed = lite and stage in (0, len(STAGES) - 1)
            for index in range(repeats if fixed else math.ceil(depth * repeats)):
                plan.append((before, after, expansion, stride if index == 0 else 1, kernel))
                before = after
        self._blocks = nn.ModuleList(Block(*row, drop=DROP_CONNECT * index / len(plan), lite=lite) for index, row in enumerate(plan))
        self.width = 1280 if lite else round_channels(1280, width)
        self._conv_head = SamePaddedConv(before, self.width, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(self.width, **BATCH_NORM)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(self.width, outputs)
        self._initialise()
        if image_size is not None:
            self._fix_padding(image_size)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Images `[N, 3, H, W]` to the last feature map `[N, C, h, w]`."""
        x = self.activation(self._bn0(self._conv_stem(images)))
        recomputes = self.recomputes and self.training and torch.is_grad_enabled()
        for block in self._blocks:
            x = recomputed(block, x) if recomputes else block(x)
        return self.activation(self._bn1(self._conv_head(x)))

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        """The spatial mean `[N, C]`, with dropout in training."""
        return self._dropout(maps.mean((2, 3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images `[N, 3, H, W]` to logits `[N, outputs]`."""
        return self._fc(self.pool(self.features(images)))

    def _fix_padding(self, size: int) -> None:
        """The layers are registered in the order in which a picture passes them; those of the excitation are 1x1 and pad nothing."""
        for module in self.modules():
            if isinstance(module, SamePaddedConv):
                module.fixed = same_padding(size, module.kernel_size[0], module.stride[0])
                size = math.ceil(size / module.stride[0])

    def _initialise(self) -> None:
        """Convolutions normal with variance 2 / fan-out, as the released TensorFlow code starts them."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

"""Xception (Chollet 2017) as FaceForensics++ (Rossler et al. 2019) and DeepfakeBench release it, under their key names.

The first convolution has no padding (299 px becomes 149), the last ReLU comes after `features`, and BatchNorm has torch's epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

# channels in, channels out, separable convolutions, stride, whether it begins with a ReLU, whether the first convolution widens
BLOCKS = [
    (64, 128, 2, 2, False, True),
    (128, 256, 2, 2, True, True),
    (256, 728, 2, 2, True, True),
    *[(728, 728, 3, 1, True, True)] * 8,
    (728, 1024, 2, 2, True, False),
]


class SeparableConv(nn.Module):
    """A 3x3 convolution for each channel, then a 1x1 convolution across them."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.conv1(x))


class Block(nn.Module):
    """Separable convolutions and a shortcut. `rep` is numbered as the official one is: ReLU, convolution, BatchNorm in turn."""

    def __init__(self, before: int, after: int, repeats: int, stride: int, starts_with_relu: bool, widens_first: bool):
        super().__init__()
        if after != before or stride != 1:
            self.skip = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.skipbn = nn.BatchNorm2d(after)
        else:
            self.skip = None
        widths = [before, *([after] * repeats if widens_first else [before] * (repeats - 1) + [after])]
        layers: list[nn.Module] = []
        for index in range(repeats):
            # The very first ReLU must leave its input alone: the shortcut needs it.
            layers += [nn.ReLU(inplace=index > 0), SeparableConv(widths[index], widths[index + 1]), nn.BatchNorm2d(widths[index + 1])]
        if not starts_with_relu:
            layers = layers[1:]
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rep(x) + (x if self.skip is None else self.skipbn(self.skip(x)))


class Xception(nn.Module):
    """`adjust_channel` adds the 2048 to 512 layer that DeepfakeBench's checkpoints carry; nothing uses it."""

    def __init__(self, outputs: int = 2, adjust_channel: bool = False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64)
        for index, row in enumerate(BLOCKS):
            setattr(self, f"block{index + 1}", Block(*row))
        self.conv3, self.bn3 = SeparableConv(1024, 1536), nn.BatchNorm2d(1536)
        self.conv4, self.bn4 = SeparableConv(1536, 2048), nn.BatchNorm2d(2048)
        self.last_linear = nn.Linear(2048, outputs)
        if adjust_channel:
            self.adjust_channel = nn.Sequential(nn.Conv2d(2048, 512, 1), nn.BatchNorm2d(512), nn.ReLU())

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Images `[N, 3, H, W]` in [-1, 1] to `[N, 2048, h, w]`, before the last ReLU."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        for index in range(len(BLOCKS)):
            x = getattr(self, f"block{index + 1}")(x)
        x = F.relu(self.bn3(self.conv3(x)))
        return self.bn4(self.conv4(x))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images `[N, 3, H, W]` in [-1, 1] to logits `[N, outputs]`; class 1 is fake."""
        return self.last_linear(F.relu(self.features(images)).mean((2, 3)))


def plain_keys(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A released state dict under `Xception`'s own keys.

    Understood are the prefixes of FaceForensics++ ("model.") and DeepfakeBench ("backbone."), a classifier inside a Sequential with dropout
    ("last_linear.1."), ImageNet files with the classifier "fc." and with 1x1 convolutions stored as matrices.
    """
    plain = {}
    for key, value in state.items():
        name = key.removeprefix("model.").removeprefix("backbone.").replace("last_linear.1.", "last_linear.")
        name = f"last_linear.{name.removeprefix('fc.')}" if name.startswith("fc.") else name
        plain[name] = value[:, :, None, None] if name.endswith("pointwise.weight") and value.ndim == 2 else value
    return plain

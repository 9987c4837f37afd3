"""What ProjectedGAN's discriminators look at (Sauer et al. 2021, section 3): the features of a frozen network, mixed at random.

The paper's frozen network learnt from ImageNet. This one is small, and learns to tell the training pictures apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm

FEATURE_WIDTHS = (16, 32, 64, 96)  # channels at the images' size, at half of it, ...
MIXED = 16  # channels of every mixed feature map


class FeatureNetwork(nn.Module):
    """Images to four feature maps, each half as large as the one before; `classify` to logits, one for each training picture."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.stages = nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((channels, *FEATURE_WIDTHS))):
            convs = [nn.Conv2d(before, width, 3, 2 if level else 1, 1, bias=False), nn.Conv2d(width, width, 3, 1, 1, bias=False)]
            self.stages.append(nn.Sequential(*(part for conv in convs for part in (conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.2)))))
        self.head = nn.Linear(FEATURE_WIDTHS[-1], classes)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self(images)[-1].mean((2, 3)))


class Mixing(nn.Module):
    """Cross-channel and cross-scale mixing (section 3.2): random convolutions that nothing trains, from the smallest map up."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.ModuleList(nn.Conv2d(width, MIXED, 1) for width in FEATURE_WIDTHS)
        self.scales = nn.ModuleList(nn.Conv2d(MIXED, MIXED, 3, padding=1) for _ in FEATURE_WIDTHS)
        for conv in (*self.channels, *self.scales):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        mixed: list[torch.Tensor] = []
        for fine, over_channels, over_scales in reversed(list(zip(maps, self.channels, self.scales, strict=True))):
            x = over_channels(fine)
            if mixed:
                x = (x + F.interpolate(mixed[0], x.shape[-2:], mode="bilinear", align_corners=False)) * 0.5**0.5
            mixed.insert(0, over_scales(x))
        return mixed


class Judge(nn.Sequential):
    """A small discriminator of one feature map: halvings down to 4 px or less, then logits."""

    def __init__(self, size: int, width: int = 48):
        layers: list[nn.Module] = []
        before = MIXED
        while size > 4:
            layers += [spectral_norm(nn.Conv2d(before, width, 4, 2, 1, bias=False)), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
            before, size = width, size // 2
        layers += [spectral_norm(nn.Conv2d(before, width, 3, 1, 1)), nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(width, 1, 1))]
        super().__init__(*layers)

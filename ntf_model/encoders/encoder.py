"""What an encoder must have: pixels in, an embedding out. The small one for 32 px is here too."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from ntf_model.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


class Encoder(nn.Module):
    """An encoder is given pixels that are scaled to [0, 1] and normalised with its `mean` and `std`.

    `dim` is the width of its embedding, `name` what `build_encoder` calls it. `input_size` is the side in pixels of the pictures that it
    was trained with, or None if it takes any; `patch` a number of pixels that a side should be a multiple of. `crop` is the side of the
    part of a picture that a detector shows it; that is enlarged `upscale` times (bilinear) before the network sees it. With
    `frozen_statistics` its BatchNorm layers keep the statistics that they came with, also in training.
    """

    dim: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    input_size: int | None = None
    patch: int = 1
    crop: int = 224
    upscale: int = 1
    name: str = "small"
    frozen_statistics: bool = False

    @abstractmethod
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised float `[N, 3, H, W]` to `[N, dim]`."""

    def places(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised float `[N, 3, H, W]`, enlarged already, to features of places `[N, T, C]`. InputError if the encoder has none."""
        raise InputError(f"the encoder {self.name!r} gives one vector for a picture and none for its places", "Use another encoder")

    def last_map(self) -> nn.Module | None:
        """The module whose output is the last feature map `[N, C, h, w]`, or None if there is none."""
        return None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised float `[N, 3, H, W]`, before it is enlarged, to `[N, dim]`."""
        return self.embed(self.enlarge(pixels))

    def enlarge(self, pixels: torch.Tensor) -> torch.Tensor:
        """`[N, 3, H, W]` to `[N, 3, upscale * H, upscale * W]`."""
        if self.upscale == 1:
            return pixels
        return nn.functional.interpolate(pixels, scale_factor=self.upscale, mode="bilinear", align_corners=False)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if self.frozen_statistics or not any(value.requires_grad for value in self.parameters()):
            for module in self.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
        return self


class SmallEncoder(Encoder):
    """A residual network for 32 px on a CPU: four stages of one block, full resolution first, because forensic traces are fine-grained.

    The input is given with its high-pass residual (each pixel minus the mean of its 3x3 neighbourhood), which a network this small would
    have to spend layers on. GroupNorm makes a picture's embedding independent of its batch.
    """

    def __init__(self, width: int = 24):
        super().__init__()
        widths = (width, 2 * width, 3 * width, 4 * width)
        self.stem = nn.Conv2d(6, width, 3, padding=1, bias=False)
        self.stages = nn.ModuleList(
            ResidualBlock(before, after, stride) for before, after, stride in zip((width, *widths), widths, (1, 2, 2, 2), strict=False)
        )
        self.norm = nn.GroupNorm(4, widths[-1])
        self.dim = widths[-1]

    def maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """The last map `[N, C, h, w]`."""
        smooth = nn.functional.avg_pool2d(nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
        hidden = self.stem(torch.cat([pixels, 4 * (pixels - smooth)], 1))
        for stage in self.stages:
            hidden = stage(hidden)
        return torch.relu(self.norm(hidden))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.maps(pixels).mean((2, 3))

    def places(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.maps(pixels).flatten(2).transpose(1, 2)

    def last_map(self) -> nn.Module:
        return self.stages[-1]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the activation before each, and a shortcut (pre-activation ResNet)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, before), nn.GroupNorm(4, after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if stride != 1 or before != after else None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        active = torch.relu(self.norm1(hidden))
        kept = hidden if self.shortcut is None else self.shortcut(active)
        return kept + self.conv2(torch.relu(self.norm2(self.conv1(active))))

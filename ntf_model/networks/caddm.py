"""CADDM (Dong et al. 2023): a backbone, and an artifact detection module that looks for swapped regions at four scales."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ntf_model.networks.efficientnet import EfficientNet
from ntf_model.networks.resnet import ResNet
from ntf_model.networks.resnet import official_key as resnet_key

INPUT_SIZE: Final = 224  # the four maps of the module, 7, 5, 3 and 1 pixels wide, need exactly this
BACKBONES = ("resnet34", "efficientnet-b3", "efficientnet-b4")
RATIOS = 2  # shapes of anchor at each position: high and wide
IMAGENET_CLASSES = 1000  # the backbones keep their ImageNet classifier, which nothing uses


class ExtraBlock(nn.Module):
    """A residual block without padding in its first convolution: a 3x3 one makes the map two pixels smaller."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, kernel), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.downsample = nn.Sequential(nn.Conv2d(width, width, kernel, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.downsample(x))


class EndBlock(nn.Module):
    """The last block: 3 pixels to 1, without BatchNorm."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2, self.downsample = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.downsample(x))


class MultiScaleDetection(nn.Module):
    """Box offsets and class scores at every position of every map, in the order of the anchors."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        kernels = (3, 3, 3, 1)
        self.ms_dets = nn.ModuleList(nn.Conv2d(width, RATIOS * 4, kernel, padding=kernel // 2) for kernel in kernels)
        self.ms_cls = nn.ModuleList(nn.Conv2d(width, RATIOS * classes, kernel, padding=kernel // 2) for kernel in kernels)
        self.classes = classes

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        boxes = [head(x).permute(0, 2, 3, 1).flatten(1) for head, x in zip(self.ms_dets, maps, strict=True)]
        scores = [head(x).permute(0, 2, 3, 1).flatten(1) for head, x in zip(self.ms_cls, maps, strict=True)]
        count = len(maps[0])
        return torch.cat(boxes, 1).view(count, -1, 4), torch.cat(scores, 1).view(count, -1, self.classes)


class ArtifactDetection(nn.Module):
    def __init__(self, width: int, classes: int = 2):
        super().__init__()
        extra = [nn.Sequential(ExtraBlock(width, kernel)) for kernel in (1, 3, 3)]
        self.adm_extra_layers = nn.ModuleList([*extra, EndBlock(width)])
        self.multi_scale_detection_module = MultiScaleDetection(width, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A map `[N, C, 7, 7]` to offsets `[N, 168, 4]`, scores `[N, 168, classes]` and the last feature `[N, C]`."""
        maps = []
        for layer in self.adm_extra_layers:
            x = layer(x)
            maps.append(x)
        return *self.multi_scale_detection_module(maps), x.flatten(1)


class Output(NamedTuple):
    """`logits` `[N, 2]` (class 1 is fake), `loc` `[N, 168, 4]`, `conf` `[N, 168, 2]`; the features `[N, C]` that make the logits."""

    logits: torch.Tensor
    loc: torch.Tensor
    conf: torch.Tensor
    global_feat: torch.Tensor
    adm_feat: torch.Tensor


class CADDM(nn.Module):
    """`backbone` is one of BACKBONES; other ResNets and EfficientNets of this package fit as well."""

    def __init__(self, backbone: str = "resnet34", classes: int = 2):
        super().__init__()
        kind = EfficientNet if backbone.startswith("efficientnet") else ResNet
        self.backbone = backbone
        self.base_model = kind(backbone, IMAGENET_CLASSES)
        width = self.base_model.width
        self.adm = ArtifactDetection(width)
        self.fc = nn.Linear(width, classes)
        nn.init.normal_(self.fc.weight, std=1 / math.sqrt(width))

    def forward(self, images: torch.Tensor) -> Output:
        """BGR images `[N, 3, 224, 224]`, 0 to 255, not normalised."""
        if isinstance(self.base_model, EfficientNet):
            maps = self.base_model.features(images)
            global_feat = self.base_model.pool(maps)
        else:
            maps, global_feat = self.base_model.features(images)
        loc, conf, adm_feat = self.adm(maps)
        return Output(self.fc(global_feat + adm_feat), loc, conf, global_feat, adm_feat)


def official_key(key: str) -> str:
    """The name of a tensor of `CADDM` in its authors' files."""
    inner = key.removeprefix("base_model.")
    return key if inner == key or inner.startswith("_") else f"base_model.{resnet_key(inner)}"


def backbone_of(state: dict[str, torch.Tensor]) -> str:
    """Which of BACKBONES a released state dict belongs to, by the width of its classifier."""
    widths = {512: "resnet34", 1536: "efficientnet-b3", 1792: "efficientnet-b4", 2048: "resnet50"}
    width = state["fc.weight"].shape[1] if "fc.weight" in state else 0
    return widths.get(width, "resnet34")

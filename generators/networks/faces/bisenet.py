"""BiSeNet for face parsing (Yu et al., "BiSeNet: Bilateral Segmentation Network", ECCV 2018), as face-parsing.PyTorch trained it.

Its spatial path is replaced by the second stage of the ResNet-18 that is its context path. Keys are those of the released
`79999_iter.pth` (DiffFace ships the same as `FaceParser.pth`): a flat state dict.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from generators.errors import CheckpointError
from generators.networks.state import fold_batch_norm, load_exactly

CLASSES = (
    "background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "glasses", "left_ear", "right_ear", "earring",
    "nose", "mouth", "upper_lip", "lower_lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip


class BiSeNet(nn.Module):
    """`forward(images)`: ImageNet-normalised RGB float `[N, 3, H, W]` to logits `[N, n_classes, H, W]`. Trained at 512 px."""

    def __init__(self, n_classes: int = len(CLASSES)):
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256, 256)
        self.conv_out = Head(256, 256, n_classes)
        self.conv_out16 = Head(128, 64, n_classes)
        self.conv_out32 = Head(128, 64, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        spatial, context8, _ = self.cp(images)
        return _resize(self.conv_out(self.ffm(spatial, context8)), images)

    def forward_all(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The logits and those of the two auxiliary heads (1/16, 1/32), which training uses, all at the size of `images`."""
        spatial, context8, context16 = self.cp(images)
        fused = self.conv_out(self.ffm(spatial, context8))
        return _resize(fused, images), _resize(self.conv_out16(context8), images), _resize(self.conv_out32(context16), images)

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], source: str = "the checkpoint") -> BiSeNet:
        """The network of a released state dict, the number of classes read off it. Raises CheckpointError if it is no BiSeNet."""
        head = state.get("conv_out.conv_out.weight")
        if head is None:
            raise CheckpointError(
                f"{source} is not a BiSeNet face parser", "It should have conv_out.conv_out.weight, as 79999_iter.pth has"
            )
        return load_exactly(cls(len(head)), state, source)

    def fold(self) -> BiSeNet:
        """Itself in eval mode with each BatchNorm multiplied into the convolution before it."""
        pairs: dict[str, str] = {}
        for name, module in self.named_modules():
            if isinstance(module, ConvNormReLU):
                pairs[f"{name}.conv"] = f"{name}.bn"
            elif isinstance(module, AttentionRefinement):
                pairs[f"{name}.conv_atten"] = f"{name}.bn_atten"
            elif isinstance(module, (BasicBlock, ResNet18)):
                pairs |= {f"{name}.conv{i}": f"{name}.bn{i}" for i in (1, 2) if hasattr(module, f"conv{i}")}
                if getattr(module, "downsample", None) is not None:
                    pairs[f"{name}.downsample.0"] = f"{name}.downsample.1"
        fold_batch_norm(self.eval(), pairs)
        return self


class ContextPath(nn.Module):
    """ResNet-18 with attention refinement at 1/16 and 1/32 and a global average, merged upwards by nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvNormReLU(128, 128, 3)
        self.conv_head16 = ConvNormReLU(128, 128, 3)
        self.conv_avg = ConvNormReLU(512, 128, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        feat8, feat16, feat32 = self.resnet(images)
        coarse = self.arm32(feat32) + self.conv_avg(_mean(feat32))
        up16 = self.conv_head32(F.interpolate(coarse, feat16.shape[2:], mode="nearest"))
        up8 = self.conv_head16(F.interpolate(self.arm16(feat16) + up16, feat8.shape[2:], mode="nearest"))
        return feat8, up8, up16


class ResNet18(nn.Module):
    """ResNet-18 without its classifier, giving the maps at 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        feat8 = self.layer2(self.layer1(self.maxpool(F.relu(self.bn1(self.conv1(images))))))
        feat16 = self.layer3(feat8)
        return feat8, feat16, self.layer4(feat16)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, before: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ConvNormReLU(nn.Module):
    def __init__(self, before: int, width: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class AttentionRefinement(nn.Module):
    """A convolution whose channels are weighed by their own global average (section 3.2)."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.conv = ConvNormReLU(before, width, 3)
        self.conv_atten = nn.Conv2d(width, width, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y * torch.sigmoid(self.bn_atten(self.conv_atten(_mean(y))))


class FeatureFusion(nn.Module):
    """Spatial and context maps, concatenated, mixed, and with their channels weighed by attention (section 3.3)."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.convblk = ConvNormReLU(before, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, spatial: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        y = self.convblk(torch.cat([spatial, context], 1))
        return y + y * torch.sigmoid(self.conv2(F.relu(self.conv1(_mean(y)))))


class Head(nn.Module):
    def __init__(self, before: int, width: int, n_classes: int):
        super().__init__()
        self.conv = ConvNormReLU(before, width, 3)
        self.conv_out = nn.Conv2d(width, n_classes, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_out(self.conv(x))


def _mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3), keepdim=True)


def _resize(logits: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(logits, like.shape[2:], mode="bilinear", align_corners=True)

"""The gaze network that DiffFace guides with: stacked hourglasses that find eye landmarks, and a regression of where the eye looks.

Park et al., "Learning to Find Eye Region Landmarks for Remote Gaze Estimation in Unconstrained Settings", ETRA 2018, in the form of
david-wb/gaze-estimation, under whose key names `GazeEstimator.pt` keeps its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from generators.checkpoints import Checkpoint, read_weights
from generators.errors import CheckpointError
from generators.networks.diffusion.ddim_names import count
from generators.networks.state import load_exactly

INPUT_SIZE = (96, 160)  # height and width in pixels of the eye image
SHARPNESS = 100.0  # beta of the soft argmax
HOURGLASS_DEPTH = 4


class GazeNet(nn.Module):
    """`forward(eyes)`: grey float `[N, 96, 160]` in [0, 1] to heat maps `[N, nstack, nlandmarks, 48, 80]`, landmarks `[N, nlandmarks, 2]`
    (row and column in the last stack's heat maps) and gaze `[N, 2]` (pitch and yaw in radians).

    With `crop_statistics` every normalisation takes the mean and variance of the one crop instead of the stored ones. That is what
    DiffFace does, which leaves the network in training mode and shows it one crop at a time; here each row of a batch has its own.
    """

    def __init__(self, nstack: int = 3, nfeatures: int = 32, nlandmarks: int = 34, crop_statistics: bool = False):
        super().__init__()
        self.pre = _stem(1, 1, nfeatures)
        self.pre2 = _stem(nfeatures, 2, nfeatures)
        self.hgs = nn.ModuleList(nn.Sequential(Hourglass(HOURGLASS_DEPTH, nfeatures)) for _ in range(nstack))
        self.features = nn.ModuleList(
            nn.Sequential(Residual(nfeatures, nfeatures), ConvNormReLU(nfeatures, nfeatures, 1)) for _ in range(nstack)
        )
        self.outs = nn.ModuleList(Conv(nfeatures, nlandmarks, 1) for _ in range(nstack))
        self.merge_features = nn.ModuleList(Merge(nfeatures, nfeatures) for _ in range(nstack - 1))
        self.merge_preds = nn.ModuleList(Merge(nlandmarks, nfeatures) for _ in range(nstack - 1))
        height, width = INPUT_SIZE
        self.gaze_fc1 = nn.Linear(nfeatures * height * width // 64 + 2 * nlandmarks, 256)
        self.gaze_fc2 = nn.Linear(256, 2)
        for module in self.modules():
            if isinstance(module, Norm):
                module.crop_statistics = crop_statistics

    def forward(self, eyes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.pre(eyes.unsqueeze(1))
        appearance = self.pre2(x).flatten(1)
        heatmaps = []
        for stack, hourglass in enumerate(self.hgs):
            feature = self.features[stack](hourglass(x))
            heatmaps.append(self.outs[stack](feature))
            if stack < len(self.merge_preds):
                x = x + self.merge_preds[stack](heatmaps[-1]) + self.merge_features[stack](feature)
        landmarks = soft_argmax(heatmaps[-1])
        gaze = self.gaze_fc2(F.relu(self.gaze_fc1(torch.cat([appearance, landmarks.flatten(1)], 1))))
        return torch.stack(heatmaps, 1), landmarks, gaze

    def look(self, eyes: torch.Tensor) -> torch.Tensor:
        """Gaze `[N, 2]` of grey eye images `[N, h, w]` in [0, 1] of any size."""
        resized = F.interpolate(eyes.unsqueeze(1), INPUT_SIZE, mode="bilinear", align_corners=False)
        return self(resized.squeeze(1))[2]


def load_gaze(checkpoint: Checkpoint, crop_statistics: bool) -> GazeNet:
    """The network of a `GazeEstimator.pt`, its sizes read off the shapes. Raises CheckpointError if the file is none."""
    contents = read_weights(checkpoint.path)
    state: Mapping[str, torch.Tensor] = contents.under("model_state_dict.") or contents.tensors
    if "outs.0.conv.weight" not in state:
        raise CheckpointError(
            f"{checkpoint.path.name} is not DiffFace's gaze network", "It should have outs.0.conv.weight and gaze_fc1.weight"
        )
    landmarks, features = state["outs.0.conv.weight"].shape[:2]
    network = GazeNet(count(state, r"hgs\.(\d+)\."), features, landmarks, crop_statistics)
    return load_exactly(network, state, checkpoint.path.name).eval()


class Norm(nn.BatchNorm2d):
    """BatchNorm with its stored statistics, or each sample's own."""

    crop_statistics = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.crop_statistics:
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(x)


class Conv(nn.Module):
    def __init__(self, before: int, width: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class ConvNormReLU(Conv):
    def __init__(self, before: int, width: int, kernel: int, stride: int = 1):
        super().__init__(before, width, kernel, stride)
        self.bn = Norm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Merge(nn.Module):
    def __init__(self, before: int, width: int):
        super().__init__()
        self.conv = Conv(before, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Residual(nn.Module):
    """Pre-activation bottleneck (He et al., ECCV 2016). Its files hold a shortcut convolution even where none is used."""

    def __init__(self, before: int, width: int):
        super().__init__()
        half = width // 2
        self.bn1, self.conv1 = Norm(before), Conv(before, half, 1)
        self.bn2, self.conv2 = Norm(half), Conv(half, half, 3)
        self.bn3, self.conv3 = Norm(half), Conv(half, width, 1)
        self.skip_layer = Conv(before, width, 1)
        self.same = before == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        return y + (x if self.same else self.skip_layer(x))


class Hourglass(nn.Module):
    """Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016: halves the maps `depth` times and back."""

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.up1 = Residual(width, width)
        self.low1 = Residual(width, width)
        self.low2 = Hourglass(depth - 1, width) if depth > 1 else Residual(width, width)
        self.low3 = Residual(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2))))
        return self.up1(x) + F.interpolate(low, x.shape[2:], mode="bilinear", align_corners=False)


def soft_argmax(heatmaps: torch.Tensor) -> torch.Tensor:
    """The mean position (row, column) under a softmax of each map: `[N, K, H, W]` to `[N, K, 2]`. Positions are summed in float64,
    since the sharp softmax magnifies rounding."""
    height, width = heatmaps.shape[2:]
    share = F.softmax(SHARPNESS * heatmaps.flatten(2), dim=-1).unflatten(-1, (height, width)).double()
    rows = (share.sum(3) * torch.arange(height, device=share.device)).sum(-1)
    columns = (share.sum(2) * torch.arange(width, device=share.device)).sum(-1)
    return torch.stack([rows, columns], -1).to(heatmaps.dtype)


def _stem(before: int, stride: int, nfeatures: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormReLU(before, 64, 7, stride), Residual(64, 128), nn.MaxPool2d(2), Residual(128, 128), Residual(128, nfeatures)
    )

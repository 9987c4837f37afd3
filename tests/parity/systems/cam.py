"""Grad-CAM++ and Grad-CAM on a ResNet with made-up weights, against the official library: activations, gradients, weights and maps."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from ntf_model.ntf import cam
from tests.parity.cases import Case

NAME = re.compile(r"(?P<layer>layer\d)/class(?P<target>\d+)/(?:(?P<method>gradcam|gradcampp)/)?(?P<what>[\w]+)")
METHODS = {"gradcam": "gradcam", "gradcampp": "gradcam++"}


def check(case: Case) -> None:
    network = ResNet(case.config["layers"], case.config["block"], case.config["num_classes"]).eval()
    network.load_state_dict(case.weights("net"), strict=True)
    pixels = torch.from_numpy(case.input("x"))
    with torch.no_grad():
        case.compare("logits", network(pixels))
    checked = 0
    for name in sorted(set(case.arrays) - {"logits"}):
        if re.fullmatch(r"layer\d/activations", name):
            activation = _look(network, pixels, name.partition("/")[0], 0)
            case.compare(name, activation.values)
        else:
            parts = NAME.fullmatch(name)
            assert parts, f"{case.id}: no known quantity {name}"
            activation = _look(network, pixels, parts["layer"], int(parts["target"]))
            case.compare(name, _compute(parts, activation, tuple(pixels.shape[-2:])))
        checked += 1
    assert checked, f"{case.id} has nothing to compare with"


def _look(network: ResNet, pixels: torch.Tensor, layer: str, target: int) -> cam.Activation:
    return cam.watch(lambda pixels: network(pixels)[:, target], [getattr(network, layer)[-1]], pixels)[0]


def _compute(parts: re.Match, activation: cam.Activation, size: tuple[int, int]) -> torch.Tensor | np.ndarray:
    """A stored quantity by its name."""
    if parts["what"] == "gradients":
        return activation.gradients
    method = METHODS[parts["method"]]
    if parts["what"] == "weights":
        return cam.channel_weights(activation, method)
    every = re.fullmatch(r"cam(?:_(\d+)x)?", parts["what"])
    step = int(every[1] or 1)
    return cam.heat_maps([activation], size, method)[:, ::step, ::step]


class ResNet(nn.Module):
    """He et al. 2016 under torchvision's names, which the stored weights have."""

    def __init__(self, layers: list[int], block: str, classes: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        expansion = 4 if block == "Bottleneck" else 1
        before = 64
        for index, depth in enumerate(layers):
            width, blocks = 64 * 2**index, []
            for place in range(depth):
                blocks.append(Block(before, width, expansion, 2 if index and not place else 1))
                before = width * expansion
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))
        self.depth, self.fc = len(layers), nn.Linear(before, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(pixels))), 3, 2, 1)
        for index in range(self.depth):
            hidden = getattr(self, f"layer{index + 1}")(hidden)
        return self.fc(hidden.mean((2, 3)))


class Block(nn.Module):
    """A basic block (expansion 1) or a bottleneck (4) with the stride in its 3x3 convolution."""

    def __init__(self, before: int, width: int, expansion: int, stride: int):
        super().__init__()
        kernels = (3, 3) if expansion == 1 else (1, 3, 1)
        strides = (stride, 1) if expansion == 1 else (1, stride, 1)
        widths = [before, *[width] * (len(kernels) - 1), width * expansion]
        self.count = len(kernels)
        for index, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            setattr(self, f"conv{index + 1}", nn.Conv2d(widths[index], widths[index + 1], kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{index + 1}", nn.BatchNorm2d(widths[index + 1]))
        same = stride == 1 and before == widths[-1]
        self.downsample = None if same else nn.Sequential(nn.Conv2d(before, widths[-1], 1, stride, bias=False), nn.BatchNorm2d(widths[-1]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        kept = hidden if self.downsample is None else self.downsample(hidden)
        for index in range(self.count):
            hidden = getattr(self, f"bn{index + 1}")(getattr(self, f"conv{index + 1}")(hidden))
            hidden = torch.relu(hidden) if index < self.count - 1 else hidden
        return torch.relu(hidden + kept)

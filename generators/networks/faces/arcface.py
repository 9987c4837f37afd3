"""SimSwap's identity network: an ArcFace ResNet with improved residual blocks (Deng et al., "ArcFace", CVPR 2019, section 3.2.2).

Its own marks against other ArcFace networks: an unpadded stem (112 -> 110 px), max pooling, one PReLU slope for each activation,
the same PReLU used twice in a block. The features before normalisation are what `forward` gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from generators.checkpoints import Checkpoint, read_weights
from generators.errors import CheckpointError
from generators.images import imagenet_normalise
from generators.networks.state import fold_batch_norm, load_exactly

SE_REDUCTION = 16


class ArcFace(nn.Module):
    """`forward(images)`: ImageNet-normalised RGB float `[N, 3, input_size, input_size]` to features `[N, embedding_size]`, not normalised.

    `layers` are the blocks of each of the four stages ([3, 4, 23, 3] is ResNet-101), `widths` their channels, the stem's being the
    first. Differentiable, so that it can be trained and can guide a generator.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 23, 3),
        use_se: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
        embedding_size: int = 512,
        input_size: int = 112,
    ):
        super().__init__()
        self.input_size = input_size
        self.conv1 = nn.Conv2d(3, widths[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU()
        self.maxpool = nn.MaxPool2d(2)
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, layers, strict=True), start=1):
            blocks = [IRBlock(before, width, 1 if stage == 1 else 2, use_se)]
            blocks += [IRBlock(width, width, 1, use_se) for _ in range(depth - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            before = width
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(widths[-1] * final_size(input_size, len(widths)) ** 2, embedding_size)
        self.bn3 = nn.BatchNorm1d(embedding_size)
        self.stages = len(widths)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.prelu(self.bn1(self.conv1(images))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.bn3(self.fc(self.dropout(self.bn2(x)).flatten(1)))

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], input_size: int = 112, source: str = "the checkpoint") -> ArcFace:
        """The network that `state` belongs to, whatever prefix its keys have ("module.", "model.module.").

        Depth, widths and squeeze-and-excitation are read off the keys; the input size cannot be. CheckpointError if it is no such network.
        """
        marks = [key.removesuffix("layer1.0.bn0.weight") for key in state if key.endswith("layer1.0.bn0.weight")]
        if not marks:
            raise CheckpointError(f"{source} is not SimSwap's ArcFace", "It should have layer1.0.bn0.weight and fc.weight")
        own = {key.removeprefix(marks[0]): value for key, value in state.items() if key.startswith(marks[0])}
        blocks = sorted({(int(m[1]), int(m[2])) for key in own if (m := re.match(r"layer(\d+)\.(\d+)\.", key))})
        stages = sorted({stage for stage, _ in blocks})
        layers = [sum(other == stage for other, _ in blocks) for stage in stages]
        try:
            widths = [len(own[f"layer{stage}.0.conv2.weight"]) for stage in stages]
            network = cls(layers, "layer1.0.se.fc.0.weight" in own, widths, len(own["fc.weight"]), input_size)
        except KeyError as error:
            raise CheckpointError(
                f"{source} lacks the tensor {error.args[0]}", "Fetch it again, or check that it is SimSwap's ArcFace"
            ) from None
        return load_exactly(network, own, source)

    def fold(self) -> ArcFace:
        """Itself in eval mode with each BatchNorm that follows a convolution multiplied into it."""
        pairs = {"conv1": "bn1"}
        for name, block in self.named_modules():
            if isinstance(block, IRBlock):
                pairs |= {f"{name}.conv1": f"{name}.bn1", f"{name}.conv2": f"{name}.bn2"}
                if block.downsample is not None:
                    pairs[f"{name}.downsample.0"] = f"{name}.downsample.1"
        fold_batch_norm(self.eval(), pairs)
        return self


class IRBlock(nn.Module):
    """BN - conv - BN - PReLU - conv (stride) - BN (- squeeze and excitation), plus the input, then the same PReLU again."""

    def __init__(self, before: int, width: int, stride: int, use_se: bool):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, before, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = SqueezeExcitation(width) if use_se else None
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        y = self.bn2(self.conv2(y))
        if self.se is not None:
            y = self.se(y)
        return self.prelu(y + (x if self.downsample is None else self.downsample(x)))


class SqueezeExcitation(nn.Module):
    """Channel weights from the mean of each map, through a bottleneck (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // SE_REDUCTION
        self.fc = nn.Sequential(nn.Linear(channels, hidden), nn.PReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


def final_size(input_size: int, stages: int = 4) -> int:
    """Side of the last feature map: the stem takes 2 px, the pooling halves (down), each further stage halves (up). 112 -> 7, 32 -> 2."""
    size = (input_size - 2) // 2
    for _ in range(stages - 1):
        size = (size + 1) // 2
    return size


def identity_vectors(network: ArcFace, pixels: torch.Tensor) -> torch.Tensor:
    """Unit identity vectors `[N, embedding_size]` of aligned faces, RGB float `[N, 3, H, W]` in [0, 1] of any size.

    As SimSwap and DiffFace do it: ImageNet normalisation, nearest-neighbour resize to the network's input, features, L2 norm.
    """
    size = (network.input_size, network.input_size)
    small = F.interpolate(imagenet_normalise(pixels), size=size, mode="nearest")
    return F.normalize(network(small), dim=1)


def load_arcface(checkpoint: Checkpoint) -> ArcFace:
    """The network of an ArcFace file: a flat state dict, a whole module or {"model": DataParallel} through the safe reader, or safetensors.

    Its input is 112 px unless the option or the safetensors configuration `input_size` says otherwise.
    """
    contents = read_weights(checkpoint.path)
    input_size = int({**contents.config, **checkpoint.options}.get("input_size", 112))
    return ArcFace.from_state(contents.tensors, input_size, checkpoint.path.name)

"""ResNet (He et al. 2016) with the strides of torchvision's v1.5, whose key names most released detectors use.

The layers are transformers'; only the names are translated, so that a checkpoint goes in, and comes out, under the official keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ntf_model.errors import InputError
from ntf_model.networks.weights import load_into, read_state

DEPTHS = {
    "resnet18": [2, 2, 2, 2],
    "resnet34": [3, 4, 6, 3],
    "resnet50": [3, 4, 6, 3],
    "resnet101": [3, 4, 23, 3],
    "resnet152": [3, 8, 36, 3],
}
BOTTLENECK = ("resnet50", "resnet101", "resnet152")

_RULES = [
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
]


class ResNet(nn.Module):
    """A ResNet with one linear layer `fc` on the pooled features.

    `stem_stride` is the stride of the first convolution and of the max-pooling: 1 keeps four times the resolution throughout
    (Gragnaniello et al. 2021, section 3).
    """

    def __init__(self, name: str = "resnet50", outputs: int = 1, stem_stride: int = 2):
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        bottleneck = name in BOTTLENECK
        widths = [256, 512, 1024, 2048] if bottleneck else [64, 128, 256, 512]
        self.body = ResNetModel(ResNetConfig(depths=DEPTHS[name], hidden_sizes=widths, layer_type="bottleneck" if bottleneck else "basic"))
        self.body.embedder.embedder.convolution.stride = (stem_stride, stem_stride)
        self.body.embedder.pooler.stride = stem_stride
        self.width = widths[-1]
        self.fc = nn.Linear(self.width, outputs)
        nn.init.normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last feature map `[N, C, h, w]` and its spatial mean `[N, C]`."""
        out = self.body(images)
        return out.last_hidden_state, out.pooler_output.flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images `[N, 3, H, W]` to logits `[N, outputs]`."""
        return self.fc(self.features(images)[1])


def name_of(state: Mapping[str, torch.Tensor]) -> str:
    """Which of DEPTHS a state dict under torchvision's names belongs to. Raises InputError if it is none of them."""
    depths = [len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4)]
    bottleneck = "layer1.0.conv3.weight" in state
    for name, known in DEPTHS.items():
        if depths == known and bottleneck == (name in BOTTLENECK):
            return name
    raise InputError(f"no ResNet has {depths} blocks in its stages", f"Known: {', '.join(DEPTHS)}")


def official_key(key: str) -> str:
    """torchvision's name for a tensor of `ResNet`."""
    name = key.removeprefix("body.")
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    stage = re.match(r"encoder\.stages\.(\d)\.layers\.(\d+)\.(.*)", name)
    if not stage:
        return name
    rest = re.sub(r"^layer\.(\d)\.convolution", lambda m: f"conv{int(m[1]) + 1}", stage[3])
    rest = re.sub(r"^layer\.(\d)\.normalization", lambda m: f"bn{int(m[1]) + 1}", rest)
    return f"layer{int(stage[1]) + 1}.{stage[2]}.{rest}"


def load_imagenet(network: ResNet, source: str) -> None:
    """Starts `network` from ImageNet weights, its `fc` left as it is: a torchvision file, or a folder that transformers saved."""
    if not Path(source).is_dir():
        state = {key: value for key, value in read_state(source).items() if not key.startswith("fc.")}
        own = {f"fc.{key}": value for key, value in network.fc.state_dict().items()}
        load_into(network, {**state, **own}, source, official_key)
        return
    from transformers import ResNetModel

    try:
        network.body.load_state_dict(ResNetModel.from_pretrained(source, use_safetensors=True).state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{source} is no ResNet of this size ({str(error).splitlines()[0]})", "Give torchvision's file or another folder"
        ) from None

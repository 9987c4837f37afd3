"""From pictures to an embedding: a small network for 32 px, ResNet-50, or any backbone that transformers knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ntf_model.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SmallEncoder(nn.Module):
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

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised float `[N, 3, H, W]` to `[N, dim]`."""
        smooth = nn.functional.avg_pool2d(nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
        hidden = self.stem(torch.cat([pixels, 4 * (pixels - smooth)], 1))
        for stage in self.stages:
            hidden = stage(hidden)
        return torch.relu(self.norm(hidden)).mean((2, 3))


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


class TransformersEncoder(nn.Module):
    """A backbone of transformers, read as its pooled output, its class token, or the mean over its map."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.dim = _width(backbone.config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised float `[N, 3, H, W]` to `[N, dim]`."""
        out = self.backbone(pixel_values=pixels)
        pooled = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        hidden = out.last_hidden_state
        return hidden[:, 0] if hidden.dim() == 3 else hidden.mean((2, 3))


def build_encoder(name: str, weights: str | None = None, backbone_config: dict[str, Any] | None = None) -> nn.Module:
    """An encoder with the attribute `dim`, its convolutions in channels-last order, which is faster on a CPU and in half precision.

    `name` is "small", "resnet50" or the id or folder of a transformers model. `weights` is the id or folder of pretrained weights in
    safetensors (ImageNet: "microsoft/resnet-50"); without it the network starts at random. `backbone_config` is what `encoder_config` gave
    for a trained model: then nothing is fetched. Raises InputError if the id or folder cannot be read.
    """
    if name == "small":
        if weights:
            raise InputError("there are no pretrained weights for the encoder 'small'", "Leave `encoder_weights` out")
        return _channels_last(SmallEncoder())
    from transformers import AutoConfig, AutoModel, ResNetConfig, ResNetModel  # seconds to import

    if backbone_config is not None:
        return _channels_last(TransformersEncoder(AutoModel.from_config(AutoConfig.for_model(**backbone_config))))
    if name == "resnet50" and weights is None:
        return _channels_last(TransformersEncoder(ResNetModel(ResNetConfig())))  # the defaults are ResNet-50
    try:
        config = AutoConfig.from_pretrained(weights or name)
        config = getattr(config, "vision_config", config)  # of a model that has a text tower too
        if weights is None:
            return _channels_last(TransformersEncoder(AutoModel.from_config(config)))
        return _channels_last(TransformersEncoder(AutoModel.from_pretrained(weights, config=config, use_safetensors=True)))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(
            f"the encoder {weights or name!r} cannot be read ({reason})",
            "Give 'small', 'resnet50', the id of a model that was downloaded, or a folder with config.json and model.safetensors",
        ) from None


def encoder_config(encoder: nn.Module) -> dict[str, Any] | None:
    """The architecture of a transformers backbone, for `build_encoder`; None for the small encoder."""
    return encoder.backbone.config.to_dict() if isinstance(encoder, TransformersEncoder) else None


def last_feature_map(encoder: nn.Module) -> nn.Module:
    """The module whose output is the last feature map `[N, C, H, W]`, where Grad-CAM++ looks. InputError for a backbone without maps."""
    if isinstance(encoder, SmallEncoder):
        return encoder.stages[-1]
    stages = getattr(getattr(encoder.backbone, "encoder", None), "stages", None)
    if stages is None:
        raise InputError(f"{type(encoder.backbone).__name__} has no feature maps to explain", "Use a convolutional encoder")
    return stages[-1]


def _channels_last(encoder: nn.Module) -> nn.Module:
    return encoder.to(memory_format=torch.channels_last)


def _width(config: Any) -> int:
    """The number of features of a backbone's embedding."""
    if hasattr(config, "hidden_sizes"):
        return int(config.hidden_sizes[-1])
    for key in ("hidden_size", "hidden_dim", "projection_dim"):
        if hasattr(config, key):
            return int(getattr(config, key))
    raise InputError(f"cannot tell the width of {type(config).__name__}", "Use a vision backbone of transformers")

"""Encoders by name: small, EfficientNet-Lite0, ResNet-50, any vision model of transformers, or a function of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from ntf_model.detector import DetectorConfig
from ntf_model.encoders.adapting import Adaptation, LoRA, adapt
from ntf_model.encoders.backbones import (
    LITE0,
    LITE0_TRACES,
    LITE0_TRACES_SIZE,
    Lite0Encoder,
    OwnEncoder,
    Pooling,
    TransformersEncoder,
    lite0_file,
)
from ntf_model.encoders.encoder import Encoder, SmallEncoder
from ntf_model.encoders.own import build_own
from ntf_model.encoders.preprocessor import read_preprocessor
from ntf_model.errors import InputError, counted
from ntf_model.own_code import is_own

AUTO = "auto"
FROM_THE_HUB = "facebook/dinov2-base"  # what "auto" is where it was downloaded or can be


class EncoderSettings(BaseModel):
    """Which encoder a detector stands on, and what of it learns.

    `encoder` is "small" (0.3 M parameters, for 32 px), "efficientnet-lite0" (its ImageNet weights are in a Python package, nothing is
    downloaded), "resnet50" (from scratch, unless `encoder_weights` is given), the id or folder of a vision model of transformers,
    "package.module:build" (a function that gives a module with the attribute `dim`), or "auto": DINOv2-base where it was downloaded or can
    be, and otherwise EfficientNet-Lite0. `encoder_weights` is the id or folder of pretrained weights for "resnet50".

    `pooling` and `encoder_layer` say what is read: see `pool` and the encoders in `ntf_model.encoders.backbones`; pooling "traces" is
    EfficientNet-Lite0 after 11 blocks, as "mean_std", on crops of 64 px, and "auto" for every other encoder. `image_size` is the crop
    in pixels, and `upscale` how many times it is enlarged for the encoder; if they are not given, `ntf_model.encoders.crop` chooses them.
    `adaptation` is what learns: the "whole" encoder, "lora" (low-rank matrices beside its frozen weights), or nothing of it ("frozen").
    `frozen_statistics` keeps the statistics of BatchNorm.
    """

    encoder: str = AUTO
    encoder_weights: str | None = None
    pooling: Pooling = "auto"
    encoder_layer: int | None = Field(None, ge=0)
    image_size: int | None = Field(None, ge=16)
    upscale: int | None = Field(None, ge=1, le=8)
    adaptation: Adaptation = "whole"
    lora: LoRA = LoRA()
    frozen_statistics: bool = False

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderConfig(EncoderSettings, DetectorConfig):
    """The settings of a detector that stands on an encoder."""


def encoder_of(settings: EncoderSettings, saved: Mapping[str, Any] | None = None) -> Encoder:
    """The encoder that `settings` describe, with its pretrained weights. `saved` is what `encoder_config` gave for a trained one: then no
    weights are read and nothing is fetched. Raises InputError if it cannot be had."""
    encoder = build_encoder(settings.encoder, settings.encoder_weights, saved, pooling=settings.pooling, layer=settings.encoder_layer)
    encoder.crop = (saved or {}).get("crop") or settings.image_size or encoder.crop
    encoder.upscale = (saved or {}).get("upscale") or settings.upscale or 1
    encoder.frozen_statistics = settings.frozen_statistics
    return adapt(encoder, settings.adaptation, settings.lora)


def build_encoder(
    name: str,
    weights: str | None = None,
    saved: Mapping[str, Any] | None = None,
    *,
    pooling: Pooling = "auto",
    layer: int | None = None,
) -> Encoder:
    """An encoder, its convolutions in channels-last order, which is faster on a CPU and in half precision. Arguments as in
    `EncoderSettings` and `encoder_of`; the whole of it learns."""
    saved = _as_saved(saved)
    name = str(saved.get("name", name))
    if name == AUTO:
        name = resolve_auto()
    if weights and name != "resnet50" and (name in ("small", LITE0) or is_own(name)):
        raise InputError(f"there are no pretrained weights for the encoder {name!r} to choose from", "Leave `encoder_weights` out")
    traces = pooling == "traces" and name == LITE0 and layer is None
    if pooling == "traces":
        pooling, layer = ("mean_std", LITE0_TRACES) if traces else ("auto", layer)
    if (layer is not None or pooling != "auto") and (name == "small" or is_own(name)):
        raise InputError(f"the encoder {name!r} pools its features itself", "Leave `pooling` and `encoder_layer` out")
    encoder: Encoder
    if name == "small":
        encoder = SmallEncoder()
    elif name == LITE0:
        encoder = Lite0Encoder(pooling, layer)
        if traces:
            encoder.input_size = LITE0_TRACES_SIZE
        if not saved:
            encoder.load_imagenet()
    elif is_own(name):
        encoder = OwnEncoder(build_own(name))
    else:
        encoder = _from_transformers(name, weights, saved, pooling, layer)
    encoder.name = name
    return encoder.to(memory_format=torch.channels_last)


def encoder_config(encoder: Encoder) -> dict[str, Any]:
    """What `build_encoder` needs as `saved` to build the encoder again, without its weights."""
    facts: dict[str, Any] = {"name": encoder.name, "crop": encoder.crop, "upscale": encoder.upscale}
    if isinstance(encoder, TransformersEncoder):
        facts |= {"config": encoder.backbone.config.to_dict(), "pooler": getattr(encoder.backbone, "pooler", None) is not None}
        facts |= {"mean": encoder.mean, "std": encoder.std, "input_size": encoder.input_size}
    return facts


def encoder_note(settings: EncoderSettings, encoder: Encoder) -> str:
    """What a reader must know of a detector's encoder: which one it is where the configuration leaves that open."""
    if settings.encoder != AUTO:
        return ""
    reason = "" if encoder.name == FROM_THE_HUB else f", because {FROM_THE_HUB} is not here and cannot be fetched"
    return f"its encoder is {encoder.name}{reason}"


def resolve_auto() -> str:
    """What the encoder "auto" is on this machine: DINOv2-base if its files are here or can be fetched, else EfficientNet-Lite0."""
    from transformers.utils import cached_file

    try:
        cached_file(FROM_THE_HUB, "config.json")
    except OSError:
        if lite0_file() is None:
            raise InputError(
                f"the encoder 'auto' is {FROM_THE_HUB}, which cannot be reached, or {LITE0}, which is not installed",
                "Install it: pip install 'natural-trace-foundry[offline]', or name another encoder",
            ) from None
        return LITE0
    return FROM_THE_HUB


def last_feature_map(encoder: Encoder) -> nn.Module:
    """The module whose output is the last feature map `[N, C, H, W]`, where Grad-CAM++ looks. InputError for a backbone without maps."""
    last = encoder.last_map()
    if last is None:
        kind = type(getattr(encoder, "backbone", encoder)).__name__
        raise InputError(f"{kind} has no feature maps to explain", "Use a convolutional encoder")
    return last


def _as_saved(saved: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """`saved`, also as runs from before encoders had names have it: the configuration of the transformers model alone."""
    if not saved or "name" in saved:
        return saved or {}
    return {"name": "resnet50", "config": saved}


def _from_transformers(
    name: str, weights: str | None, saved: Mapping[str, Any], pooling: Pooling, layer: int | None
) -> TransformersEncoder:
    from transformers import AutoConfig, AutoModel, ResNetConfig, ResNetModel  # seconds to import

    if saved:
        model = AutoModel.from_config(AutoConfig.for_model(**saved["config"]))
        encoder = TransformersEncoder(model if saved.get("pooler", True) else _without_pooler(model), pooling, layer)
        return _with_facts(encoder, saved)
    if name == "resnet50" and weights is None:
        return TransformersEncoder(ResNetModel(ResNetConfig()), pooling, layer)  # the defaults are ResNet-50
    source = weights or name
    try:
        config = AutoConfig.from_pretrained(source)
        config = getattr(config, "vision_config", config)  # of a model that has a text tower too
        model, loaded = AutoModel.from_pretrained(source, config=config, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(
            f"the encoder {source!r} cannot be read ({reason})",
            "Give 'small', 'efficientnet-lite0', 'resnet50', the id of a model that was downloaded, a folder with config.json and "
            "model.safetensors, or package.module:function",
        ) from None
    missing = sorted(loaded["missing_keys"])
    if missing and all("pooler." in key for key in missing):  # transformers fills a pooler that a checkpoint does not have at random
        model, missing = _without_pooler(model), []
    if missing:
        raise InputError(
            f"{source} lacks {counted(len(missing), 'tensor')}, such as {missing[0]}", "Fetch the model again, or give another"
        )
    return _with_facts(TransformersEncoder(model, pooling, layer), read_preprocessor(source))


def _with_facts(encoder: TransformersEncoder, facts: Mapping[str, Any]) -> TransformersEncoder:
    """`encoder` with those of its attributes that `facts` names."""
    for key in ("mean", "std"):
        if key in facts:
            setattr(encoder, key, tuple(facts[key]))
    encoder.input_size = facts.get("input_size", encoder.input_size)
    return encoder


def _without_pooler(model: nn.Module) -> nn.Module:
    model.pooler = None
    return model

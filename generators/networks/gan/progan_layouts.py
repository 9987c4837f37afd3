"""The layouts in which ProGAN generators are published, brought to the one network of `progan`.

- genforce: `layer0.weight`, `output0.weight`, ...: the authors' TensorFlow weights under other names.
- TensorFlow: `4x4/Dense/weight`, `ToRGB_lod0/weight`, ...: the authors' own pickle.
- pytorch_GAN_zoo: `formatLayer.module.weight`, `scaleLayers.0.0.module.weight`, ...: trained again by FAIR.
- ours: the network's own names.

What tensors cannot say comes from the checkpoint's options or from the file's own configuration: `label_size`, `use_wscale` (false where
He's constant is part of the stored weights), `fused_scale` (told by the shapes if any doubling changes the number of channels),
`final_tanh`, `lod`; for pytorch_GAN_zoo `alpha`, `leakyReluLeak`, `equalizedlR` and `final_tanh`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from generators.checkpoints import Contents
from generators.errors import CheckpointError
from generators.networks.gan.progan import ProGAN
from generators.networks.state import load_exactly
from generators.networks.upsample import upsampling_kernel

Tensors = dict[str, torch.Tensor]

# where a file keeps the generator: a moving average of its weights before the weights themselves
_PREFIXES = ("generator_smooth.", "avgG.", "Gs.", "generator.", "netG.", "G.", "")
_ALWAYS = ("use_pixelnorm", "use_leakyrelu", "normalize_latents", "perChannelNormalization")  # arguments that are true in every release
_TF_LAYER = re.compile(r"(\d+)x\1/(Dense|Conv|Conv0|Conv0_up|Conv1)/(weight|bias)")
_TF_TO_RGB = re.compile(r"ToRGB_lod(\d+)/(weight|bias)")


def build(contents: Contents, path: Path, options: Mapping[str, Any]) -> ProGAN:
    """The generator that a checkpoint holds, with its weights. Raises CheckpointError if it holds none."""
    for prefix in _PREFIXES:
        for mark, bring in _LAYOUTS.items():
            if prefix + mark in contents.tensors:
                tensors = {name: value.float() for name, value in contents.under(prefix).items()}
                settings = {**_stored_settings(contents.config, prefix), **options}
                if absent := [name for name in _ALWAYS if settings.get(name) is False]:
                    raise CheckpointError(f"{path} is a ProGAN without {absent[0]}", "No published network is, and none is supported")
                try:
                    state, arguments = bring(tensors, settings)
                except KeyError as error:
                    raise CheckpointError(f"{path} lacks {prefix}{error.args[0]}", "It is not whole: fetch it again") from None
                label_size = arguments.get("label_size", 0)
                widths = [state[f"convs.{level}.bias"].shape[0] for level in range(_count(state, "convs.{}.bias"))]
                z_dim = state["dense.weight"].shape[1] - label_size
                return load_exactly(ProGAN(z_dim, widths, state["to_rgb.0.bias"].shape[0], **arguments), state, str(path))
    names = ", ".join(sorted(contents.tensors)[:3])
    raise CheckpointError(
        f"{path} holds no ProGAN generator (its first tensors are {names})", "Give it to the generator that it belongs to"
    )


def _stored_settings(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What the file itself says: in our header at the top, in pytorch_GAN_zoo's `config` object, in a TensorFlow network's arguments."""
    zoo = _inner(_inner(config, "config"), "attributes")
    tensorflow = _inner(_inner(config, prefix.rstrip(".")), "static_kwargs")
    settings = {**config, **zoo, **tensorflow}
    if "tanh_at_end" in tensorflow:
        settings["final_tanh"] = tensorflow["tanh_at_end"]
    if zoo.get("lossCriterion") in ("MSE", "DCGAN"):  # the losses that come with a tanh at the end
        settings["final_tanh"] = True
    return settings


def _ours(tensors: Tensors, settings: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    known = {"label_size": 0, "leak": 0.2, "lod": 0.0, "final_tanh": False}
    return tensors, {name: type(default)(settings.get(name, default)) for name, default in known.items()}


def _genforce(tensors: Tensors, settings: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """A weight is used times gain / sqrt(fan-in), the gain being sqrt 2, or 1 for ToRGB; a bias is used as it is."""
    equalized = bool(settings.get("use_wscale", True))
    levels = _count(tensors, "output{}.weight")
    ups = [tensors[f"layer{2 * level}.weight"] for level in range(1, levels)]
    outs = [tensors[f"layer{2 * level}.bias"].shape[0] for level in range(1, levels)]
    if settings.get("fused_scale", any(kernel.shape[0] != out for kernel, out in zip(ups, outs, strict=True))):
        ups = [kernel.transpose(0, 1).flip(2, 3) for kernel in ups]  # stored [in, out] and turned, as a transposed convolution has it

    def scaled(weight: torch.Tensor, gain: float = math.sqrt(2.0)) -> torch.Tensor:
        return weight * (gain / math.sqrt(weight[0].numel())) if equalized else weight

    first = tensors["layer0.weight"]  # [out, in, 4, 4], laid turned over a single pixel: an affine map to 4x4 pixels
    state = {
        "dense.weight": scaled(first).flip(2, 3).permute(0, 2, 3, 1).reshape(-1, first.shape[1]),
        "dense.bias": tensors["layer0.bias"].repeat_interleave(16),
    }
    for level in range(levels):
        state[f"convs.{level}.weight"] = scaled(tensors[f"layer{2 * level + 1}.weight"])
        state[f"convs.{level}.bias"] = tensors[f"layer{2 * level + 1}.bias"]
        state[f"to_rgb.{level}.weight"] = scaled(tensors[f"output{level}.weight"], 1.0)
        state[f"to_rgb.{level}.bias"] = tensors[f"output{level}.bias"]
        if level:
            state[f"ups.{level - 1}.weight"] = upsampling_kernel(scaled(ups[level - 1]))
            state[f"ups.{level - 1}.bias"] = tensors[f"layer{2 * level}.bias"]
    lod = float(settings.get("lod", tensors.get("lod", 0.0)))
    return state, {"lod": lod, "label_size": int(settings.get("label_size", 0)), "final_tanh": bool(settings.get("final_tanh", False))}


def _tensorflow(variables: Tensors, settings: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """TensorFlow's variables (kernels `[height, width, in, out]`) under genforce's names and in its order of axes, and on from there."""
    last = max(int(match[1]) for name in variables if (match := _TF_TO_RGB.fullmatch(name)))
    tensors: Tensors = {"lod": variables["lod"]} if "lod" in variables else {}
    for name, value in variables.items():
        if match := _TF_TO_RGB.fullmatch(name):
            target = f"output{last - int(match[1])}.{match[2]}"
        elif match := _TF_LAYER.fullmatch(name):
            level = int(match[1]).bit_length() - 3
            target = f"layer{2 * level + (match[2] in ('Conv', 'Conv1'))}.{match[3]}"
        else:
            continue  # the optimiser's and the moving average's own bookkeeping
        if name == "4x4/Dense/weight":
            tensors[target] = value.view(value.shape[0], -1, 4, 4).permute(1, 0, 2, 3).flip(2, 3)
        else:
            tensors[target] = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
    return _genforce(tensors, {**settings, "fused_scale": "8x8/Conv0_up/weight" in variables})


def _zoo(tensors: Tensors, settings: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """He's constant multiplies the bias too, and ToRGB has the same gain, sqrt 2, as the rest."""
    equalized = bool(settings.get("equalizedlR", True))
    levels = _count(tensors, "toRGBLayers.{}.module.weight")
    state: Tensors = {}

    def bring(name: str, to: str) -> None:
        weight = tensors[f"{name}.module.weight"]
        scale = math.sqrt(2.0 / weight[0].numel()) if equalized else 1.0
        scaled = weight * scale
        state[f"{to}.weight"] = upsampling_kernel(scaled) if to.startswith("ups") else scaled
        state[f"{to}.bias"] = tensors[f"{name}.module.bias"] * scale

    bring("formatLayer", "dense")
    bring("groupScale0.0", "convs.0")
    for level in range(levels):
        bring(f"toRGBLayers.{level}", f"to_rgb.{level}")
        if level:
            bring(f"scaleLayers.{level - 1}.0", f"ups.{level - 1}")
            bring(f"scaleLayers.{level - 1}.1", f"convs.{level}")
    alpha = float(settings.get("alpha", 0.0)) if levels > 1 else 0.0  # the weight of the next coarser image, which is what a lod below 1 is
    leak = float(settings.get("leakyReluLeak", 0.2))
    return state, {"lod": alpha, "leak": leak, "final_tanh": bool(settings.get("final_tanh", False))}


_LAYOUTS = {
    "dense.weight": _ours,
    "layer0.weight": _genforce,
    "4x4/Dense/weight": _tensorflow,
    "formatLayer.module.weight": _zoo,
}


def _inner(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = config.get(key)
    return inner if isinstance(inner, Mapping) else {}


def _count(tensors: Tensors, pattern: str) -> int:
    count = 0
    while pattern.format(count) in tensors:
        count += 1
    return count

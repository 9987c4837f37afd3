"""The layouts in which StyleGAN2 generators are published, brought to NVIDIA's PyTorch names.

NVIDIA's pickles and state dicts have those names already. rosinality's stylegan2-pytorch numbers its layers; the TensorFlow releases name
their variables by scope and keep the axes of kernels in another order. Which layout a file has is plain from its names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.checkpoints import Contents
from generators.errors import CheckpointError
from generators.networks.gan.stylegan2 import Generator
from generators.seeding import legacy_randn

# Settings of the TensorFlow classes that do not change what is computed here, and those that the shapes tell.
_TF_NOT_NEEDED = {
    *("latent_size", "label_size", "dlatent_size", "resolution", "num_channels", "fmap_base", "fmap_max", "fmap_min", "fmap_decay"),
    *("architecture", "use_noise", "mapping_layers", "mapping_fmaps", "label_fmaps", "structure", "dtype", "num_fp16_res", "func_name"),
    *("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val", "style_mixing_prob", "dlatent_avg_beta"),
    *("w_avg_beta", "randomize_noise", "is_training", "is_validation", "return_dlatents"),
}
_TF_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}


def build(contents: Contents, path: Path) -> Generator:
    """The generator that a checkpoint holds, with its weights: the moving average where the file has one.

    Raises CheckpointError if it holds none, or one whose tensors do not fit its configuration.
    """
    for prefix in ("G_ema.", ""):
        if f"{prefix}synthesis.b4.const" in contents.tensors:
            tensors = contents.under(prefix)
            described = contents.config.get("G_ema", {}) if prefix else contents.config
            return _fill(_nvidia_config(described, tensors), tensors, path)
    for prefix in ("g_ema.", ""):
        if f"{prefix}input.input" in contents.tensors:
            tensors = _from_rosinality(contents.under(prefix), path)
            average = contents.tensors.get("latent_avg")
            if average is not None:
                tensors["mapping.w_avg"] = average.flatten()
            return _fill(_infer_config(tensors), tensors, path)
    for prefix in ("Gs.", ""):
        if f"{prefix}synthesis/4x4/Const/const" in contents.tensors:
            described = contents.config.get("Gs", {}) if prefix else contents.config
            tensors = _from_tensorflow(contents.under(prefix))
            return _fill(_tensorflow_config(described.get("static_kwargs", {}), tensors, path), tensors, path)
    names = ", ".join(sorted(contents.tensors)[:3]) or "none"
    raise CheckpointError(
        f"{path} holds no StyleGAN2 generator (its first tensors: {names})", "Give it to the generator that it belongs to"
    )


def _fill(config: dict[str, Any], tensors: Mapping[str, torch.Tensor], path: Path) -> Generator:
    try:
        network = Generator(**config)
        missing, unexpected = network.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    except (TypeError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        problem = str(error).strip().split("\n")[-1].strip()
        raise CheckpointError(f"{path}: its tensors do not fit its configuration ({problem})", "It may be of another release") from None
    missing = [name for name in missing if not name.endswith("resample_filter")]
    if "mapping.w_avg" in missing:
        missing.remove("mapping.w_avg")
        network.mapping.w_avg.copy_(_mean_w(network))
    if missing or unexpected:
        names = ", ".join([f"no {name}" for name in missing[:3]] + [f"unknown {name}" for name in unexpected[:3]])
        raise CheckpointError(f"{path} is no whole StyleGAN2 generator ({names})", "It may be of another release")
    return network


@torch.inference_mode()
def _mean_w(network: Generator) -> torch.Tensor:
    """The mean style of 4,096 fixed latents, for a file that was saved without it."""
    z = torch.from_numpy(legacy_randn(0, (4096, network.z_dim))).float()
    c = torch.eye(network.c_dim)[torch.arange(4096) % network.c_dim] if network.c_dim else None
    return network.mapping(z, c)[:, 0].mean(0)


def _nvidia_config(described: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What `Generator` is to be called with: the arguments that a pickle or our own header kept, or what the shapes tell."""
    if "init_kwargs" not in described:
        return dict(described) if "img_resolution" in described else _infer_config(tensors)
    names = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs")
    config = dict(zip(names, described.get("init_args", []), strict=False)) | described["init_kwargs"]
    config |= config.pop("synthesis_kwargs", {})  # one dict of its own in stylegan2-ada-pytorch, loose in stylegan3
    if "conv_clamp" not in config:  # the two releases have different defaults, so that the layer itself is asked
        layer = described.get("modules", {}).get("synthesis.b4.conv1", {})
        config["conv_clamp"] = layer.get("attributes", {}).get("conv_clamp")
    for name in ("fp16_channels_last", "fused_modconv_default"):
        config.pop(name, None)  # they change how the official code computes, and not its results
    return config


def _infer_config(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The configuration of a bare state dict under NVIDIA's names, from its shapes."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    resolutions = sorted(int(match[1]) for name in shapes if (match := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", name)))
    channels = {resolution: shapes[f"synthesis.b{resolution}.conv1.weight"][0] for resolution in resolutions}
    last = resolutions[-1]
    c_dim, embedded = shapes.get("mapping.embed.weight", (0, 0))[::-1]
    num_layers = sum(re.fullmatch(r"mapping\.fc\d+\.weight", name) is not None for name in shapes)
    mapping = {"num_layers": num_layers, "layer_features": shapes["mapping.fc0.weight"][0]}
    if any(name.endswith("skip.weight") for name in shapes):
        architecture = "resnet"
    else:
        architecture = "skip" if "synthesis.b4.torgb.weight" in shapes else "orig"
    config = {
        "z_dim": shapes["mapping.fc0.weight"][1] - embedded,
        "c_dim": c_dim,
        "w_dim": shapes["synthesis.b4.conv1.affine.weight"][1],
        "img_resolution": last,
        "img_channels": shapes[f"synthesis.b{last}.torgb.weight"][0],
        "channel_base": max(count * resolution for resolution, count in channels.items()),
        "channel_max": max(channels.values()),
        "architecture": architecture,
        "use_noise": "synthesis.b4.conv1.noise_strength" in shapes,
        "mapping_kwargs": mapping | ({"embed_features": embedded} if c_dim else {}),
    }
    if "synthesis.b4.resample_filter" in tensors:
        config["resample_filter"] = tensors["synthesis.b4.resample_filter"].float().sum(0).tolist()
    return config


def _from_rosinality(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Their numbered layers under NVIDIA's names. Theirs scale a kernel by 1 / sqrt(fan-in) before the demodulation, ours do not."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        scope, _, rest = name.partition(".")
        number, _, inner = rest.partition(".")
        if name.endswith(".kernel") or scope not in ("style", "input", "noises", "conv1", "to_rgb1", "convs", "to_rgbs"):
            continue
        if scope == "style":
            renamed[f"mapping.fc{int(number) - 1}.{inner}"] = value
        elif scope == "input":
            renamed["synthesis.b4.const"] = value[0]
        elif scope == "noises":
            index = int(number.removeprefix("noise_"))
            renamed[f"{_layer(index)}.noise_const"] = value[0, 0]
        elif scope in ("conv1", "convs"):
            place, inner = (0, rest) if scope == "conv1" else (int(number) + 1, inner)
            renamed |= _rosinality_layer(_layer(place), inner, value, scaled=True)
        else:
            resolution, inner = (4, rest) if scope == "to_rgb1" else (8 << int(number), inner)
            renamed |= _rosinality_layer(f"synthesis.b{resolution}.torgb", inner, value, scaled=False)
    if "mapping.fc0.weight" not in renamed:
        raise CheckpointError(f"{path} has no mapping network (style.1)", "It may be of another release")
    return renamed


def _layer(index: int) -> str:
    """The styled convolutions in order: b4.conv1, b8.conv0, b8.conv1, b16.conv0, ..."""
    return f"synthesis.b{4 << ((index + 1) // 2)}.conv{(index + 1) % 2}"


def _rosinality_layer(layer: str, name: str, value: torch.Tensor, scaled: bool) -> dict[str, torch.Tensor]:
    if name == "conv.weight":
        value = value[0]
        return {f"{layer}.weight": value / math.sqrt(value[0].numel()) if scaled else value}
    if name.startswith("conv.modulation."):
        return {f"{layer}.affine.{name.removeprefix('conv.modulation.')}": value}
    if name == "noise.weight":
        return {f"{layer}.noise_strength": value.reshape(())}
    return {f"{layer}.bias": value.flatten()}  # activate.bias, or the bias of the colours


def _from_tensorflow(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """TensorFlow's variables under NVIDIA's PyTorch names: kernels from [H, W, I, O] to [O, I, H, W], dense weights transposed, biases of
    the modulation counted from one, and the kernels of upsampling convolutions turned round."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if name == "dlatent_avg":
            renamed["mapping.w_avg"] = value
        elif match := re.fullmatch(r"mapping/(LabelEmbed|Dense(\d+))/(weight|bias)", name):
            layer = "embed" if match[2] is None else f"fc{match[2]}"
            renamed[f"mapping.{layer}.{match[3]}"] = value.T if match[3] == "weight" else value
        elif name == "synthesis/4x4/Const/const":
            renamed["synthesis.b4.const"] = value[0]
        elif match := re.fullmatch(r"synthesis/noise(\d+)", name):
            renamed[f"{_layer(int(match[1]))}.noise_const"] = value[0, 0]
        elif match := re.fullmatch(r"synthesis/(\d+)x\d+/(\w+)/(\w+)", name):
            renamed |= _tensorflow_layer(f"synthesis.b{match[1]}.{_TF_LAYERS.get(match[2], match[2])}", match[2], match[3], value)
    return {name: value.contiguous() for name, value in renamed.items()}


def _tensorflow_layer(layer: str, scope: str, name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    if name == "weight":
        value = value.flip((0, 1)) if scope in ("Conv0_up", "Skip") else value
        return {f"{layer}.weight": value.permute(3, 2, 0, 1)}
    if name == "mod_weight":
        return {f"{layer}.affine.weight": value.T}
    if name == "mod_bias":
        return {f"{layer}.affine.bias": value + 1}
    return {f"{layer}.{name}": value}


def _tensorflow_config(kwargs: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """What the network was made with, where its shapes do not tell."""
    config = _infer_config(tensors)
    mapping = config["mapping_kwargs"]
    for name, value in kwargs.items():
        if value is None or name in _TF_NOT_NEEDED:
            continue
        if name == "mapping_nonlinearity":
            mapping["activation"] = value
        elif name == "mapping_lrmul":
            mapping["lr_multiplier"] = value
        elif name == "nonlinearity":
            config["activation"] = value
        elif name == "resample_kernel":
            config["resample_filter"] = list(np.ravel(value))
        elif name == "conv_clamp":
            config["conv_clamp"] = value
        else:
            raise CheckpointError(
                f"{path} was made with {name}={value!r}, which this generator does not know", "It may be of another release"
            )
    return config

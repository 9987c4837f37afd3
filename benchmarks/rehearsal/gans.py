"""Stand-ins of the GANs: the names, shapes and forms of the releases with random weights, scaled so that pictures come out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.rehearsal import pickles
from benchmarks.rehearsal.scale import Scale
from generators.demo.pictures import training_pictures

Tensors = dict[str, torch.Tensor]


def progan(path: Path, scale: Scale) -> None:
    """genforce's conversion: weights as drawn from N(0, 1), the sizes of He's constant applied when they are used."""
    widths = scale.of((512, 512, 512, 512, 256, 128, 64, 32, 16), (32, 32, 16, 16))
    state: Tensors = {"lod": torch.zeros(())}
    for level, width in enumerate(widths):
        before = widths[max(0, level - 1)]
        state[f"layer{2 * level}.weight"] = torch.randn(width, before, *((4, 4) if level == 0 else (3, 3)))
        state[f"layer{2 * level + 1}.weight"] = torch.randn(width, width, 3, 3)
        state[f"output{level}.weight"] = torch.randn(3, width, 1, 1) * 0.3
        state |= {f"layer{2 * level + number}.bias": torch.zeros(width) for number in (0, 1)} | {f"output{level}.bias": torch.zeros(3)}
    torch.save({"generator": state, "discriminator": {}}, path)


def stylegan2(path: Path, scale: Scale, resolution: int, channel_base: int) -> None:
    """NVIDIA's pickle. The last layer's fixed noise is the photograph of a face, so that face detectors find one in what it makes."""
    network, arguments = _stylegan2_network(scale, resolution, channel_base)
    state = network.state_dict()
    pickles.write_nvidia_pickle(path, {key: ("Generator", state, arguments) for key in ("G", "G_ema")})


def stylegan2_tensorflow(path: Path, scale: Scale) -> None:
    """The TensorFlow pickle of StyleGAN2 church, 256 px, config F. Variables without dimensions are numbers, as NumPy stored them."""
    network, _ = _stylegan2_network(scale, 256, 32768)
    variables = _tensorflow_variables(network.state_dict())
    parts = {
        part: [(name.partition("/")[2], value) for name, value in variables.items() if name.startswith(f"{part}/")]
        for part in ("mapping", "synthesis")
    }

    def stored(make: Callable[..., Any]) -> Any:
        own = [("dlatent_avg", variables["dlatent_avg"]), ("lod", np.float32(0))]
        components = {part: make(f"G_{part}", {}, listed) for part, listed in parts.items()}
        side = int(network.img_resolution)
        return make("Gs", {"resolution": side, "fmap_base": 16384, "num_channels": 3, "label_size": 0}, own, **components)

    pickles.write_tensorflow_pickle(path, "dnnlib.tflib.network", stored)


def projected_gan(path: Path, scale: Scale) -> None:
    """A pickle of ordinary modules, FastGAN with the spectral norms of 2021 (`weight_orig`, `weight_u`, `weight_v`)."""
    ngf = scale.of(128, 8)
    factors = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
    width = {size: max(1, int(ngf * factor)) for size, factor in factors.items()}
    state = _spectral("init.init.0", torch.randn(256, 2 * width[4], 4, 4), dim=1) | _batch_norm("init.init.1", 2 * width[4])
    for size in (8, 16, 32, 64, 128, 256):
        before = width[size // 2]
        for place, count in ((1, before), (5, width[size])):
            state |= _spectral(f"feat_{size}.{place}", torch.randn(2 * width[size], count, 3, 3))
            state |= {f"feat_{size}.{place + 1}.weight": torch.full((1,), 0.05)} | _batch_norm(f"feat_{size}.{place + 2}", 2 * width[size])
    for large, small in ((64, 4), (128, 8), (256, 16)):
        state |= _spectral(f"se_{large}.main.1", torch.randn(width[large], width[small], 4, 4))
        state |= _spectral(f"se_{large}.main.3", torch.randn(width[large], width[large], 1, 1))
    state |= _spectral("to_big", torch.randn(3, width[256], 3, 3)) | {"to_big.bias": torch.zeros(3)}
    state = {f"synthesis.{name}": value for name, value in state.items()}
    attributes = {"z_dim": 256, "img_resolution": 256, "img_channels": 3, "c_dim": 0}
    networks = {key: ("Generator", state, attributes) for key in ("G", "G_ema")}
    pickles.write_module_pickle(path, "pg_modules.networks_fastgan", networks)


def vqgan(path: Path, scale: Scale) -> None:
    """taming-transformers' Lightning checkpoint: the transformer with its masks, the first stage with its discriminator, and callbacks."""
    width, layers, heads = scale.of(1664, 64), scale.of(24, 2), 16
    state: Tensors = {
        "transformer.tok_emb.weight": 0.02 * torch.randn(1024, width),
        "transformer.pos_emb": 0.02 * torch.randn(1, 256, width),
        "transformer.head.weight": 0.02 * torch.randn(1024, width),
        **_layer_norm("transformer.ln_f", width),
    }
    mask = torch.tril(torch.ones(256, 256)).view(1, 1, 256, 256)
    for layer in range(layers):
        block = f"transformer.blocks.{layer}"
        state |= _layer_norm(f"{block}.ln1", width) | _layer_norm(f"{block}.ln2", width) | {f"{block}.attn.mask": mask}
        for name in ("query", "key", "value", "proj"):
            state |= _linear(f"{block}.attn.{name}", width, width)
        state |= _linear(f"{block}.mlp.0", width, 4 * width) | _linear(f"{block}.mlp.2", 4 * width, width)
    assert width % heads == 0
    state |= {f"first_stage_model.{name}": value for name, value in _first_stage(scale).items()}
    state["first_stage_model.loss.discriminator.main.0.weight"] = torch.randn(64, 3, 4, 4)
    with pickles.classes_of("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") as classes:
        callbacks = {classes["ModelCheckpoint"]: {"best_model_score": torch.tensor(1.0), "best_model_path": "logs/last.ckpt"}}
        torch.save({"epoch": 1, "global_step": 1, "state_dict": state, "callbacks": callbacks, "optimizer_states": []}, path)


def _first_stage(scale: Scale) -> Tensors:
    from generators.networks.vq.vqgan import OFFICIAL_SIZES, FirstStage, FirstStageConfig

    sizes: dict[str, Any] = {**OFFICIAL_SIZES["vqgan-256"]["first_stage"], "ch": scale.of(128, 32)}
    state = dict(FirstStage(FirstStageConfig(**sizes)).state_dict())
    state["quantize.embedding.weight"] = torch.randn_like(state["quantize.embedding.weight"])
    for name in [name for name in state if re.fullmatch(r"decoder\.up\.\d+\.upsample\.conv\.weight", name)]:
        before = state[name.replace("weight", "bias")].shape[0]  # our upsampling convolutions are of another shape than the released
        state[name] = torch.randn(before, before, 3, 3) / math.sqrt(9 * before)
    state["decoder.conv_out.weight"] *= 3
    return state


def _stylegan2_network(scale: Scale, resolution: int, channel_base: int) -> tuple[nn.Module, dict[str, Any]]:
    from generators.networks.gan.stylegan2 import Generator

    resolution = scale.of(resolution, 64)
    synthesis = {"channel_base": scale.of(channel_base, 512), "channel_max": scale.of(512, 16), "num_fp16_res": 4, "conv_clamp": 256}
    arguments = {
        "z_dim": 512,
        "c_dim": 0,
        "w_dim": 512,
        "img_resolution": resolution,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": 8},
    }
    network = Generator(**arguments, **synthesis)
    last = network.get_submodule(f"synthesis.b{resolution}")
    with torch.no_grad():
        face = cv2.resize(training_pictures("faces")[0].image[..., 0], (resolution, resolution), interpolation=cv2.INTER_CUBIC)
        last.conv1.noise_const.copy_(torch.from_numpy(face / 127.5 - 1.0))
        last.conv1.noise_strength.fill_(3.0)
        last.torgb.weight.abs_()
    return network, {**arguments, "synthesis_kwargs": synthesis}


def _tensorflow_variables(state: Tensors) -> dict[str, Any]:
    """A StyleGAN2 state dict under TensorFlow's names and in its order of axes."""
    variables: dict[str, Any] = {"dlatent_avg": state["mapping.w_avg"].numpy()}
    for name, value in state.items():
        array = value.numpy()
        if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
            variables[f"mapping/Dense{match[1]}/{match[2]}"] = array.T
        elif name == "synthesis.b4.const":
            variables["synthesis/4x4/Const/const"] = array[None]
        elif match := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", name):
            side, layer, what = int(match[1]), match[2], match[3]
            scope = {"conv0": "Conv0_up", "conv1": "Conv1" if side > 4 else "Conv", "torgb": "ToRGB"}[layer]
            key = f"synthesis/{side}x{side}/{scope}"
            if what == "noise_const":
                variables[f"synthesis/noise{2 * side.bit_length() - (7 if layer == 'conv0' else 6)}"] = array[None, None]
            elif what == "weight":
                kernel = array.transpose(2, 3, 1, 0)
                variables[f"{key}/weight"] = kernel[::-1, ::-1] if layer == "conv0" else kernel
            elif what.startswith("affine."):
                variables[f"{key}/mod_{what[7:]}"] = array.T if what == "affine.weight" else array - 1
            elif what != "resample_filter":
                variables[f"{key}/{what}"] = array[()] if array.ndim == 0 else array
    return variables


def _spectral(name: str, weight: torch.Tensor, dim: int = 0) -> Tensors:
    """A weight under spectral norm, its vectors as some steps of the power iteration leave them."""
    matrix = weight.transpose(0, dim).flatten(1)
    v = torch.randn(matrix.shape[1])
    for _ in range(5):
        u = nn.functional.normalize(matrix @ v, dim=0)
        v = nn.functional.normalize(matrix.T @ u, dim=0)
    return {f"{name}.weight_orig": weight, f"{name}.weight_u": u, f"{name}.weight_v": v}


def _batch_norm(name: str, width: int) -> Tensors:
    """Statistics that keep the maps of random layers at about the same size."""
    return {
        f"{name}.weight": torch.ones(width),
        f"{name}.bias": torch.zeros(width),
        f"{name}.running_mean": torch.zeros(width),
        f"{name}.running_var": torch.full((width,), 0.15),
        f"{name}.num_batches_tracked": torch.tensor(1),
    }


def _linear(name: str, before: int, after: int) -> Tensors:
    return {f"{name}.weight": torch.randn(after, before) * 0.02, f"{name}.bias": torch.zeros(after)}


def _layer_norm(name: str, width: int) -> Tensors:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}

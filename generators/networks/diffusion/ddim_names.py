"""The tensor names of ermongroup/ddim, luping-liu/PNDM and CompVis's autoencoders, translated into those of diffusers.

One naming runs through all of them: `down.I.block.J.conv1`, `mid.attn_1.q`, `up.I.upsample.conv`. The networks are the same as diffusers'
UNet2DModel, Encoder and Decoder; only names differ, attention is written as 1x1 convolutions, and `up` is counted from the finest level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from generators.errors import CheckpointError
from generators.networks.state import count

BLOCK_PARTS = {"temb_proj": "time_emb_proj", "nin_shortcut": "conv_shortcut"}
ATTENTION_PARTS = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
WHOLE_PARTS = {"temb.dense.0": "time_embedding.linear_1", "temb.dense.1": "time_embedding.linear_2", "norm_out": "conv_norm_out"}
MIDDLE = {"block_1": "resnets.0", "block_2": "resnets.1", "attn_1": "attentions.0"}
ATTENTION_SIDE = 16  # every released model of this naming has attention where its maps are 16 pixels a side


def is_ddim_state(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of an ermongroup/ddim or luping-liu/PNDM network."""
    return "temb.dense.0.weight" in state and "mid.block_1.conv1.weight" in state


def translate(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a network (or of an encoder or decoder) under diffusers' names."""
    last = max((int(m[1]) for key in state if (m := re.match(r"up\.(\d+)\.", key))), default=0)
    return dict(_translate(key, value, last) for key, value in state.items())


def _translate(key: str, value: torch.Tensor, last: int) -> tuple[str, torch.Tensor]:
    if match := re.fullmatch(r"(down|up)\.(\d+)\.(block|attn)\.(\d+)\.(\w+)\.(weight|bias)", key):
        side, level, kind, index, part, leaf = match.groups()
        place = f"{side}_blocks.{_level(side, level, last)}.{'resnets' if kind == 'block' else 'attentions'}.{index}"
    elif match := re.fullmatch(r"mid\.(\w+)\.(\w+)\.(weight|bias)", key):
        name, part, leaf = match.groups()
        kind, place = name.split("_")[0], f"mid_block.{MIDDLE[name]}"
    elif match := re.fullmatch(r"(down|up)\.(\d+)\.(down|up)sample\.conv\.(weight|bias)", key):
        side, level, _, leaf = match.groups()
        return f"{side}_blocks.{_level(side, level, last)}.{side}samplers.0.conv.{leaf}", value
    else:
        whole, _, leaf = key.rpartition(".")
        return f"{WHOLE_PARTS.get(whole, whole)}.{leaf}", value
    if kind == "block":
        return f"{place}.{BLOCK_PARTS.get(part, part)}.{leaf}", value
    return f"{place}.{ATTENTION_PARTS[part]}.{leaf}", value.flatten(1) if value.ndim == 4 else value


def _level(side: str, level: str, last: int) -> int:
    return int(level) if side == "down" else last - int(level)


def unet_config(state: Mapping[str, torch.Tensor], size: int | None, source: str) -> dict[str, Any]:
    """The UNet2DModel configuration of a network in this naming, read from its shapes.

    `size` is the side of its images, which no shape tells; None takes it from the level that has attention. Raises CheckpointError if
    there is no such level.
    """
    levels = count(state, r"down\.(\d+)\.")
    layers = count(state, r"down\.0\.block\.(\d+)\.")
    attended = [any(key.startswith(f"down.{level}.attn.") for key in state) for level in range(levels)]
    if size is None:
        if True not in attended:
            raise CheckpointError(f"{source} does not tell the size of its images", "Give `size` under the checkpoint's options")
        size = ATTENTION_SIDE * 2 ** attended.index(True)
    if size % 2 ** (levels - 1):
        raise CheckpointError(
            f"{source} cannot make images of side {size}: its {levels} levels need a multiple of {2 ** (levels - 1)}", "Correct `size`"
        )
    return {
        "sample_size": size,
        "in_channels": state["conv_in.weight"].shape[1],
        "out_channels": len(state["conv_out.weight"]),
        "block_out_channels": [len(state[f"down.{level}.block.0.conv1.weight"]) for level in range(levels)],
        "layers_per_block": layers,
        "down_block_types": ["AttnDownBlock2D" if attention else "DownBlock2D" for attention in attended],
        "up_block_types": ["AttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attended)],
        "attention_head_dim": None,  # one head
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "downsample_padding": 0,
    }

"""The UNet of openai/guided-diffusion, which LDM, Stable Diffusion and DiffFace build upon, as diffusers' UNets.

The original numbers its blocks in one row: `input_blocks.N`, `middle_block.N`, `output_blocks.N`, several to a resolution. diffusers has
the same network as levels of residual blocks and attentions. Everything but the number of attention heads and the size of the images is
read from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from generators.errors import CheckpointError
from generators.networks.state import count, load_exactly

RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
WHOLE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True)
class Heads:
    """How attention is divided, which no shape tells. `channels` is guided-diffusion's `num_head_channels` and goes before `number`;
    `number_up` is for the way up. `qkv_first` is its `use_new_attention_order`: queries, keys and values before heads in a tensor."""

    channels: int | None = None
    number: int = 1
    number_up: int | None = None
    qkv_first: bool = False

    def of(self, channels: int, up: bool) -> int:
        """The number of heads of an attention over `channels` channels."""
        return channels // self.channels if self.channels else (self.number_up if up and self.number_up else self.number)


def heads_of(settings: Mapping[str, Any]) -> Heads:
    """guided-diffusion's own settings as heads: `num_head_channels`, `num_heads`, `num_heads_upsample`, `use_new_attention_order`.

    -1 stands for none there. By default 64 channels a head, as in its released models of 256 pixels.
    """

    def given(name: str) -> int | None:
        return None if settings.get(name, -1) == -1 else int(settings[name])

    channels = given("num_head_channels") if "num_heads" in settings else given("num_head_channels") or 64
    qkv_first = bool(settings.get("use_new_attention_order", False))
    return Heads(channels, given("num_heads") or 1, given("num_heads_upsample"), qkv_first)


@dataclass(frozen=True)
class Layout:
    """What the keys tell: levels, residual blocks in each, which levels have attention, and whether resampling is by residual blocks."""

    widths: Sequence[int]
    layers: int
    attended: Sequence[bool]
    residual_resampling: bool
    scale_shift: bool
    context: int | None  # width of the text embedding that attention looks at; None: it looks at the image alone


def is_openai_state(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a guided-diffusion UNet."""
    return "input_blocks.0.0.weight" in state and "out.2.weight" in state


def read_layout(state: Mapping[str, torch.Tensor], source: str) -> Layout:
    """The layout of a network in this naming. Raises CheckpointError, naming `source`, if it is none."""
    outputs = count(state, r"output_blocks\.(\d+)\.")
    if not outputs or not is_openai_state(state):
        raise CheckpointError(f"{source} holds no guided-diffusion UNet", "It should have input_blocks.0.0.weight and output_blocks.0.0.*")
    ups = {match[1] for key in state if (match := re.match(r"output_blocks\.(\d+)\.[12]\.(?:conv|in_layers)\.", key))}
    levels = len(ups) + 1
    layers = outputs // levels - 1
    firsts = [1 + level * (layers + 1) for level in range(levels)]
    context = [value.shape[1] for key, value in state.items() if key.endswith("attn2.to_k.weight")]
    return Layout(
        widths=[len(state[f"input_blocks.{first}.0.out_layers.3.weight"]) for first in firsts],
        layers=layers,
        attended=[f"input_blocks.{first}.1.norm.weight" in state for first in firsts],
        residual_resampling=levels > 1 and f"input_blocks.{layers + 1}.0.in_layers.2.weight" in state,
        scale_shift=len(state["middle_block.0.emb_layers.1.weight"]) == 2 * len(state["middle_block.0.out_layers.3.weight"]),
        context=context[0] if context else None,
    )


def build(state: Mapping[str, torch.Tensor], sample_size: int, heads: Heads, source: str, **config: Any) -> nn.Module:
    """The diffusers UNet (UNet2DModel, or UNet2DConditionModel where attention looks at a text) with the weights of `state`.

    `sample_size` is the side of what it denoises; `config` goes to the diffusers configuration as it is.
    """
    from diffusers import UNet2DConditionModel, UNet2DModel

    layout = read_layout(state, source)
    require_divisible(sample_size, len(layout.widths), source)
    settings = {
        "sample_size": sample_size,
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(state["out.2.weight"]),
        "block_out_channels": tuple(layout.widths),
        "layers_per_block": layout.layers,
        "resnet_time_scale_shift": "scale_shift" if layout.scale_shift else "default",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
    }
    if "label_emb.weight" in state:
        settings["num_class_embeds"] = len(state["label_emb.weight"])
    if layout.context is not None:
        depth = count(state, r"middle_block\.1\.transformer_blocks\.(\d+)\.")
        down = tuple("CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in layout.attended)
        settings |= {
            "down_block_types": down,
            "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(down)),
            "cross_attention_dim": layout.context,
            "transformer_layers_per_block": depth,
            "attention_head_dim": tuple(heads.of(width, up=False) for width in layout.widths),  # diffusers means the number of heads
        }
        return load_exactly(UNet2DConditionModel(**(settings | config)), translate(state, layout, heads), source)
    plain = "ResnetDownsampleBlock2D" if layout.residual_resampling else "DownBlock2D"
    down = tuple("AttnDownBlock2D" if attention else plain for attention in layout.attended)
    resampling = "resnet" if layout.residual_resampling else "conv"
    settings |= {
        "down_block_types": down,
        "up_block_types": tuple(name.replace("Down", "Up").replace("down", "up") for name in reversed(down)),
        "downsample_type": resampling,
        "upsample_type": resampling,
        "attention_head_dim": heads.channels,
        "attn_norm_num_groups": 32,  # without it diffusers leaves out the middle attention's norm
    }
    unet = load_exactly(UNet2DModel(**(settings | config)), translate(state, layout, heads), source)
    if heads.channels is None:  # diffusers fixes the width of a head, the original their number
        for name, module in unet.named_modules():
            if hasattr(module, "to_q"):
                module.heads = heads.of(module.to_q.out_features, up=name.startswith("up_blocks"))
    return unet


def require_divisible(side: int, levels: int, source: str) -> None:
    """CheckpointError if a UNet of so many levels, each with half the side of the one above, cannot make images of `side`."""
    factor = 2 ** (levels - 1)
    if side % factor:
        raise CheckpointError(
            f"{source} cannot make images of side {side}: its {levels} levels need a multiple of {factor}", "Correct the size"
        )


def translate(state: Mapping[str, torch.Tensor], layout: Layout, heads: Heads) -> dict[str, torch.Tensor]:
    """The tensors under diffusers' names, fused queries, keys and values taken apart."""
    translated: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        whole, _, leaf = key.rpartition(".")
        if whole in WHOLE:
            translated[f"{WHOLE[whole]}.{leaf}"] = value
            continue
        side, number, rest = key.split(".", 2)
        if side == "middle_block":
            place = {"0": "mid_block.resnets.0", "1": "mid_block.attentions.0", "2": "mid_block.resnets.1"}[number]
        else:
            place, rest = _place(side, int(number), rest, layout)
        part, _, leaf = rest.rpartition(".")
        if part in RESIDUAL:
            translated[f"{place}.{RESIDUAL[part]}.{leaf}"] = value
        elif layout.context is not None or "samplers" in place:
            translated[f"{place}.{part}.{leaf}"] = value
        elif part == "qkv":
            count_heads = heads.of(len(value) // 3, up=side == "output_blocks")
            for name, piece in zip(("to_q", "to_k", "to_v"), _split_qkv(value, count_heads, heads.qkv_first), strict=True):
                translated[f"{place}.{name}.{leaf}"] = piece
        else:
            name = {"norm": "group_norm", "proj_out": "to_out.0"}.get(part, part)
            translated[f"{place}.{name}.{leaf}"] = value.flatten(1) if part == "proj_out" and leaf == "weight" else value
    return translated


def openai_state(state: Mapping[str, torch.Tensor], heads: Heads) -> dict[str, torch.Tensor]:
    """The tensors of a UNet2DModel under guided-diffusion's names: what `translate` undoes."""
    layers = count(state, r"down_blocks\.0\.resnets\.(\d+)\.")
    whole_names, residual = ({new: old for old, new in names.items()} for names in (WHOLE, RESIDUAL))
    named: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        whole, _, leaf = key.rpartition(".")
        if whole in whole_names:
            named[f"{whole_names[whole]}.{leaf}"] = value
            continue
        match = re.fullmatch(r"(down|up|mid)_blocks?(?:\.(\d+))?\.(resnets|attentions|\w+samplers)\.(\d+)\.(.+)", whole)
        assert match is not None, whole
        side, kind, part = match[1], match[3], match[5]
        level, block = int(match[2] or 0), layers if "samplers" in kind else int(match[4])
        if side == "mid":
            place = f"middle_block.{1 if kind == 'attentions' else 2 * block}"
        elif side == "down":
            place = f"input_blocks.{1 + level * (layers + 1) + block}.{1 if kind == 'attentions' else 0}"
        else:
            attended = f"up_blocks.{level}.attentions.0.to_q.weight" in state
            index = {"resnets": 0, "attentions": 1, "upsamplers": 1 + attended}[kind]
            place = f"output_blocks.{level * (layers + 1) + block}.{index}"
        if kind != "attentions":
            named[f"{place}.{residual.get(part, 'op' if side == 'down' else 'conv')}.{leaf}"] = value
        elif part == "group_norm":
            named[f"{place}.norm.{leaf}"] = value
        elif part == "to_out.0":
            named[f"{place}.proj_out.{leaf}"] = value.unsqueeze(-1) if leaf == "weight" else value
        elif part == "to_q":
            fused = _fuse_qkv([state[f"{whole[:-1]}{letter}.{leaf}"] for letter in "qkv"], heads, side == "up")
            named[f"{place}.qkv.{leaf}"] = fused.unsqueeze(-1) if leaf == "weight" else fused
    return named


def _place(side: str, number: int, rest: str, layout: Layout) -> tuple[str, str]:
    """The diffusers module that a key under `input_blocks.N` or `output_blocks.N` belongs to, and the key's remainder within it."""
    index, rest = rest.split(".", 1)
    row = layout.layers + 1  # blocks of one level
    if side == "input_blocks":
        level, block = divmod(number - 1, row)
        if block == layout.layers:  # the last of a level halves the resolution
            return f"down_blocks.{level}.downsamplers.0", rest.replace("op.", "conv.")
        return f"down_blocks.{level}.{'resnets' if index == '0' else 'attentions'}.{block}", rest
    level, block = divmod(number, row)
    if index == "0":
        return f"up_blocks.{level}.resnets.{block}", rest
    if rest.startswith(("conv.", "in_layers.", "emb_layers.", "out_layers.", "skip_connection.")):
        return f"up_blocks.{level}.upsamplers.0", rest
    return f"up_blocks.{level}.attentions.{block}", rest


def _split_qkv(fused: torch.Tensor, heads: int, qkv_first: bool) -> tuple[torch.Tensor, ...]:
    """Weight `[3C, C, 1]` or bias `[3C]` as three of `[C, C]` or `[C]`, rows ordered head by head."""
    flat = fused.flatten(1) if fused.ndim > 1 else fused
    if qkv_first:
        return flat.chunk(3)
    grouped = flat.reshape(heads, 3, -1, *flat.shape[1:])
    return tuple(grouped[:, which].reshape(-1, *flat.shape[1:]) for which in range(3))


def _fuse_qkv(pieces: Sequence[torch.Tensor], heads: Heads, up: bool) -> torch.Tensor:
    """The inverse of `_split_qkv`, of weights `[C, C]` or biases `[C]`."""
    if heads.qkv_first:
        return torch.cat(list(pieces))
    grouped = torch.stack([piece.unflatten(0, (heads.of(len(piece), up), -1)) for piece in pieces], 1)
    return grouped.flatten(0, 2)

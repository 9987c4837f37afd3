"""VQGAN's networks from the tensors of a taming-transformers checkpoint (`transformer.*` and `first_stage_model.*`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from generators.checkpoints import Contents
from generators.errors import CheckpointError
from generators.networks.state import load_exactly
from generators.networks.upsample import upsampling_kernel
from generators.networks.vq.gpt import GPT
from generators.networks.vq.vqgan import FirstStage, FirstStageConfig

Tensors = dict[str, torch.Tensor]
Network = TypeVar("Network", bound=nn.Module)


def build(contents: Contents, path: Path, n_head: int) -> tuple[FirstStage, GPT]:
    """Both networks that a checkpoint holds. All sizes are read off the tensors but the number of heads. Raises CheckpointError."""
    for prefix in ("state_dict.", ""):
        if f"{prefix}transformer.pos_emb" in contents.tensors:
            try:
                return (
                    _first_stage(contents.under(f"{prefix}first_stage_model."), path),
                    _transformer(contents.under(f"{prefix}transformer."), path, n_head),
                )
            except KeyError as error:
                raise CheckpointError(
                    f"{path} lacks the tensor {error.args[0]} of its network", "It is not whole: fetch it again"
                ) from None
    names = ", ".join(sorted(contents.tensors)[:3])
    raise CheckpointError(
        f"{path} holds no VQGAN with a transformer (its first tensors are {names})", "Give it to the generator that it belongs to"
    )


def _transformer(tensors: Tensors, path: Path, n_head: int) -> GPT:
    state = {name: value for name, value in tensors.items() if not name.endswith("attn.mask")}
    layers = _count(state, r"blocks\.(\d+)\.")
    for block in (f"blocks.{layer}.attn" for layer in range(layers)):
        for kind in ("weight", "bias"):
            if f"{block}.query.{kind}" in state:
                parts = [state.pop(f"{block}.{part}.{kind}") for part in ("query", "key", "value")]
                state[f"{block}.qkv.{kind}"] = torch.cat(parts)
    vocab_size, n_embd = state["tok_emb.weight"].shape
    if n_embd % n_head:
        raise CheckpointError(
            f"{path}: a transformer of width {n_embd} cannot have {n_head} heads", "Give its number as the option `n_head`"
        )
    with torch.device("meta"):
        network = GPT(vocab_size, state["pos_emb"].shape[1], layers, n_head, n_embd)
    return _filled(network, state, path)


def _first_stage(tensors: Tensors, path: Path) -> FirstStage:
    state = {name: value for name, value in tensors.items() if not name.startswith("loss.")}
    levels = _count(state, r"decoder\.up\.(\d+)\.")
    ch, in_channels = state["encoder.conv_in.weight"].shape[:2]
    n_embed, embed_dim = state["quantize.embedding.weight"].shape
    config = FirstStageConfig(
        ch=ch,
        ch_mult=[len(state[f"encoder.down.{level}.block.0.conv1.bias"]) // ch for level in range(levels)],
        num_res_blocks=_count(state, r"encoder\.down\.0\.block\.(\d+)\."),
        attn_levels=[level for level in range(levels) if f"decoder.up.{level}.attn.0.q.weight" in state],
        z_channels=len(state["post_quant_conv.bias"]),
        embed_dim=embed_dim,
        n_embed=n_embed,
        in_channels=in_channels,
        out_ch=len(state["decoder.conv_out.bias"]),
        resamp_with_conv=levels == 1 or "decoder.up.1.upsample.conv.weight" in state,
    )
    for level in range(1, levels):
        name = f"decoder.up.{level}.upsample.conv.weight"
        if name in state and state[name].shape[-1] == 3:
            state[name] = upsampling_kernel(state[name])
    with torch.device("meta"):
        network = FirstStage(config)
    return _filled(network, state, path)


def _filled(network: Network, state: Mapping[str, torch.Tensor], path: Path) -> Network:
    """`network`, made on the meta device so that no weights are drawn in vain, with the tensors of `state`."""
    return load_exactly(network.to_empty(device="cpu"), state, str(path))


def _count(state: Tensors, pattern: str) -> int:
    """How many different numbers stand in the group of `pattern` among the names; they begin at 0."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})

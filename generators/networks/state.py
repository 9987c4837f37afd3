"""Putting a state dict into a network, with an error that a person can act on, and folding what inference does not need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from generators.errors import CheckpointError

Network = TypeVar("Network", bound=nn.Module)


def load_exactly(network: Network, state: Mapping[str, torch.Tensor], source: str, assign: bool = False) -> Network:
    """`network` with every tensor of `state` in its place. Raises CheckpointError, naming `source` and the first keys, if a key is
    missing, left over or of another shape. `num_batches_tracked` may be absent: older releases do not have it. With `assign` the tensors
    of `state` become the network's own, in their precision, in place of being copied."""
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key} is {list(state[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or extra or shapes:
        faults = [f"{name} {_some(keys)}" for name, keys in (("lacks", missing), ("has besides", extra), ("misfits:", shapes)) if keys]
        raise CheckpointError(
            f"{source} does not fit {type(network).__name__}: {'; '.join(faults)}", "Check which network the file belongs to"
        )
    network.load_state_dict(dict(state), strict=False, assign=assign)
    return network


def count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    """How many different numbers the keys have where `pattern` captures one."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def fold_batch_norm(network: nn.Module, pairs: Mapping[str, str]) -> None:
    """Multiplies each BatchNorm into the convolution before it, in place, and leaves `nn.Identity` where it was. `pairs` names modules,
    convolution to BatchNorm. For a network in eval mode: the numbers stay the same up to rounding."""
    for conv_name, norm_name in pairs.items():
        fused = fuse_conv_bn_eval(network.get_submodule(conv_name), network.get_submodule(norm_name))
        network.set_submodule(conv_name, fused)
        network.set_submodule(norm_name, nn.Identity())


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")

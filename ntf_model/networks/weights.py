"""Weights that other people released, read without running anything that is in the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ntf_model.errors import InputError

ENTRIES = ("model", "network", "state_dict", "net")  # where training scripts put the network beside the optimizer


def read_state(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file: safetensors, or a torch file of tensors and plain containers.

    The state dict is the file's top level or one of its entries `ENTRIES`; a prefix "module." (DataParallel) is taken off. Raises
    InputError, with the fix, if the file is missing, damaged, has no tensors, or wants to build objects when it is read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weights file {path}", "Check the path")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file ({error})", "Fetch or make it again") from None
    loaded = _load_torch(path)
    for entry in ENTRIES:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(entry), Mapping):
            loaded = loaded[entry]
            break
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)} if isinstance(loaded, Mapping) else {}
    if not tensors:
        raise InputError(f"{path} holds no state dict", f"It must be one, or have one under {', '.join(ENTRIES)}")
    return without_prefix(tensors, "module.")


def without_prefix(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """`state` with `prefix` taken off every key, if every key has it; otherwise as it is."""
    if state and all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def load_into(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    source: Path | str,
    official: Callable[[str], str] = str,
    unused: Iterable[str] = (),
) -> None:
    """Copies `state`, under its authors' keys, into `network`; `official` gives their name for each of the network's own.

    Keys that begin with one of `unused` may be left over. Raises InputError naming the first key that is missing, left over, or of
    another shape. A missing `num_batches_tracked` (files older than it) counts as 0.
    """
    own = network.state_dict()
    wanted = {official(key): key for key in own}
    left_over = [key for key in state if key not in wanted and not key.startswith(tuple(unused))]
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    for keys, what in ((missing, "lacks the"), (left_over, "has an unexpected")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise InputError(f"{source} {what} key {keys[0]!r}{more}", "It belongs to another network or another version of it")
    values = {}
    for name, key in wanted.items():
        value = state.get(name, torch.zeros_like(own[key]))
        if value.shape != own[key].shape:
            raise InputError(
                f"{source}: {name} has the shape {list(value.shape)}, the network {list(own[key].shape)}", "It belongs to another network"
            )
        values[key] = value
    network.load_state_dict(values)


def official_state(network: nn.Module, official: Callable[[str], str] = str) -> dict[str, torch.Tensor]:
    """The network's tensors under its authors' keys."""
    return {official(key): value for key, value in network.state_dict().items()}


def count_parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def _load_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(
            f"{path} is a pickle that asks for more than tensors and plain containers, and is not read ({reason})",
            "Save its state dict alone (`torch.save(model.state_dict(), ...)`) where you trust it, or convert it to safetensors",
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"{path} cannot be read as a torch file ({reason})", "Fetch it again, or give safetensors") from None

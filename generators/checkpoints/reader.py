"""A checkpoint file as tensors and plain configuration.

Two forms are read here: safetensors, with configuration as JSON under the header key "config", and torch's zip files through
`weights_only`. Nothing is ever unpickled in the ordinary way; a file that needs that is refused with the names that it asked for.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from generators.errors import CheckpointError


@dataclass
class Contents:
    """What a file holds. `tensors` by the names that the file uses, nested dicts joined by dots; `config` is plain data;
    `form` names the container ("safetensors", "torch")."""

    tensors: dict[str, torch.Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    form: str = "safetensors"

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def read(path: Path) -> Contents:
    """Reads a checkpoint file. Raises CheckpointError, naming the file and the mend, if it is missing, damaged or unsafe."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint file {path}", "Run `ntf plan` on the manifest to see where it comes from")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if zipfile.is_zipfile(path):
        return _read_torch_zip(path)
    raise CheckpointError(f"{path} is neither safetensors nor a torch zip file", "If it was downloaded, fetch it again: it may be cut short")


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """Writes `tensors` and, as JSON in the header, `config`. The file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata={"config": json.dumps(dict(config), sort_keys=True)})
    partial.replace(path)


def _read_safetensors(path: Path) -> Contents:
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            return Contents({name: file.get_tensor(name) for name in file.keys()}, config, "safetensors")  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error})", "Fetch or make it again") from None


def _read_torch_zip(path: Path) -> Contents:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} asks for more than tensors and plain containers ({_first_line(error)})", "It was not read") from None
    except (RuntimeError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged ({_first_line(error)})", "Fetch or make it again") from None
    tensors: dict[str, torch.Tensor] = {}
    config = _collect(loaded, "", tensors)
    return Contents(tensors, config if isinstance(config, dict) else {}, "torch")


def _collect(value: Any, prefix: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Moves tensors out of nested dicts into `tensors` under dotted names, and returns the plain data that is left."""
    if isinstance(value, torch.Tensor):
        tensors[prefix.rstrip(".")] = value
        return None
    if isinstance(value, Mapping):
        rest = {str(key): _collect(item, f"{prefix}{key}.", tensors) for key, item in value.items()}
        return {key: item for key, item in rest.items() if item is not None and item != {}}
    return value if isinstance(value, (str, int, float, bool, list, tuple)) else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]

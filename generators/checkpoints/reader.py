"""A checkpoint file as tensors and plain configuration.

`read` takes safetensors, torch's zip files (plain state dicts and Lightning's), torch's older streams (state dicts and whole modules) and
bare pickles (NVIDIA's, ProjectedGAN's, those of the TensorFlow releases). Which it is comes from the bytes. Nothing in a file is ever run:
see `pickles`. A file that asks for it is refused with the name of what it asked for.

Names of the tensors: those of the file, nested dicts and modules joined by dots. So a Lightning file has `state_dict.model.weight`, a
pickle `{G, D, G_ema}` of NVIDIA or ProjectedGAN has `G_ema.mapping.fc0.weight`, a whole module at the top has `layer1.0.conv1.weight`, and
`{"model": DataParallel}` has `model.module.layer1...`; elements of lists have their index. A TensorFlow triple has `G.`, `D.` and `Gs.`
before TensorFlow's names: `Gs.mapping/Dense0/weight`. A tensor alone is called `tensor`.

Configuration: plain data at the place where it was, `config["G_ema"]["init_kwargs"]`; see `modules.collect` for what a stored module
leaves. In a file with one module at the top it is `config["class_name"]` and so on.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from foreign.files import open_plain, require_plain
from foreign.text import reason
from generators.checkpoints.calls import CALLS, LEGACY_MAGIC, read_stream
from generators.checkpoints.files import ZIP, describe_other, is_safetensors
from generators.checkpoints.modules import collect
from generators.checkpoints.pickles import unpickle
from generators.checkpoints.records import Global, MalformedError, Record, RefusedError
from generators.checkpoints.storages import Tensors, ZipStorages
from generators.errors import CheckpointError
from generators.files import whole_file

_STREAM_START = b"\x80\x02\x8a\n" + LEGACY_MAGIC.to_bytes(10, "little") + b"."
_COPIES = 4  # how many times its own size a file's tensors may come to, where several share one storage


@dataclass
class Contents:
    """What a file holds. `tensors` by the names that the file uses, nested dicts joined by dots, read when they are asked for; `config` is
    plain data; `form` names the container ("safetensors", "torch", "torch-stream", "pickle"); `globals` are the classes and functions that
    a pickle names."""

    tensors: Mapping[str, torch.Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    form: str = "safetensors"
    globals: tuple[str, ...] = ()

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): self.tensors[name] for name in self.tensors if name.startswith(prefix)}


def read(path: Path) -> Contents:
    """Reads a checkpoint file. Raises CheckpointError, naming the file and the fix, if it is missing, damaged or unsafe."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, where one file is read", "Give a file, or the folder of another form of the model")
    if path.exists():
        require_plain(path)
    else:
        raise CheckpointError(f"there is no checkpoint file {path}", "Run `ntf plan` on the manifest to see where it comes from")
    data = _map(path)
    start = bytes(data[:512])
    other = describe_other(start)
    if other is not None:
        raise CheckpointError(f"{path} {other[0]}", other[1])
    if is_safetensors(start, len(data)) or (path.suffix.lower() == ".safetensors" and not _is_pickle(start)):
        return _read_safetensors(path)
    try:
        if start.startswith(ZIP):
            form, value, names = "torch", *_read_zip(path, data)
        elif bytes(data[: len(_STREAM_START)]) == _STREAM_START:
            form, value, names = "torch-stream", *read_stream(data, CALLS)
        else:
            whole = unpickle(data, CALLS)
            form, value, names = "pickle", _name_triple(whole.value), whole.globals
        references, config = collect(value)
        if sum(reference.numel * reference.dtype.itemsize for reference in references.values()) > _COPIES * len(data):
            raise MalformedError("holds tensors of many times its own size")
    except RefusedError as error:
        raise CheckpointError(f"{path} {error}", "It was not read: no file of a known generator needs that") from None
    except MalformedError as error:
        raise CheckpointError(f"{path} {error}", "It is damaged, or no checkpoint: fetch it again and compare its sha256") from None
    config = config if isinstance(config, dict) else {}
    return Contents(Tensors(references), config, form, tuple(sorted(str(name) for name in names)))


def inspect(path: Path) -> dict[str, Any]:
    """What is in a checkpoint file, as plain data: `form`, `globals`, `config`, and `tensors` as name, shape and dtype."""
    contents = read(path)
    tensors = [
        {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in contents.tensors.items()
    ]
    return {"path": str(path), "form": contents.form, "globals": list(contents.globals), "tensors": tensors, "config": contents.config}


def convert(path: Path, out: Path) -> Contents:
    """Writes what `path` holds as safetensors, names unchanged, configuration in the header; returns what was read."""
    contents = read(path)
    tensors: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for name, value in contents.tensors.items():
        place = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if place in taken else value  # safetensors takes no two names for the same memory
        taken.add(place)
    write_safetensors(out, tensors, contents.config)
    return contents


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """Writes `tensors` and, as JSON in the header, `config`. The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            partial,
            metadata={"config": json.dumps(dict(config), sort_keys=True)},
        )


def _read_safetensors(path: Path) -> Contents:
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
            if not isinstance(config, dict):
                raise ValueError("its configuration is no object")
            return Contents({name: file.get_tensor(name) for name in file.keys()}, config, "safetensors")  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({reason(error)})", "Fetch or make it again") from None


def _is_pickle(start: bytes) -> bool:
    """Whether a file that is named .safetensors begins as torch or pickle write: a zip archive, or a protocol of 2 and more."""
    return start.startswith(ZIP) or (start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5")


def _map(path: Path) -> memoryview:
    """The file's bytes, mapped copy-on-write: what is written to a tensor never reaches the file."""
    try:
        with open_plain(path) as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise CheckpointError(f"cannot read {path} ({error})", "If it was downloaded, fetch it again") from None


def _name_triple(value: Any) -> Any:
    """The three networks of a TensorFlow release by the names that their authors call them."""
    is_triple = isinstance(value, (tuple, list)) and len(value) == 3 and all(isinstance(item, Record) for item in value)
    return dict(zip(("G", "D", "Gs"), value, strict=True)) if is_triple else value


def _read_zip(path: Path, data: memoryview) -> tuple[Any, frozenset[Global]]:
    """The value in a torch zip file: `NAME/data.pkl`, with the storages in `NAME/data/KEY`."""
    entries = _entries(path, data)
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("data.pkl")]
    if len(roots) != 1:
        raise MalformedError("is a zip archive, but none that torch wrote")
    (root,) = roots
    if bytes(entries.get(f"{root}byteorder", b"little")) != b"little":
        raise MalformedError("was written on a big-endian machine")
    storages = ZipStorages({name.removeprefix(f"{root}data/"): entry for name, entry in entries.items() if name.startswith(f"{root}data/")})
    unpickled = unpickle(entries[f"{root}data.pkl"], CALLS, storages.find)
    return unpickled.value, unpickled.globals


def _entries(path: Path, data: memoryview) -> dict[str, memoryview]:
    """The files in a zip archive as views of it. torch stores them uncompressed, so nothing is unpacked."""
    entries: dict[str, memoryview] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                header = bytes(data[info.header_offset : info.header_offset + 30])
                if len(header) < 30 or info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                    raise MalformedError("is a zip archive with compressed parts, which torch does not write")
                start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
                if start + info.file_size > len(data):
                    raise MalformedError("is cut short")
                entries[info.filename] = data[start : start + info.file_size]
    except MalformedError:
        raise
    except Exception as error:  # zipfile raises what it meets: struct.error, EOFError, NotImplementedError, KeyError
        raise MalformedError(f"is no whole zip archive ({reason(error)})") from None
    return entries

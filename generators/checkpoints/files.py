"""A checkpoint on disk: where it is, what is said of it, the sha256 of its bytes, and what its first bytes tell, whatever it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreign.files import open_plain
from generators.checkpoints.folders import folder_files
from generators.errors import CheckpointError, InputError

ZIP = b"PK\x03\x04"
LFS = b"version https://git-lfs"
# Files that people give for checkpoints, and what to do about each.
OTHERS = (
    (LFS, "is a note of Git LFS in place of the file", "Fetch the file itself, with `git lfs pull` or from its page"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, of Keras or TensorFlow", "No generator reads that: get the weights for PyTorch"),
    (b"GGUF", "is a GGUF file, whose weights are quantised", "No generator reads that: get the weights as safetensors"),
    (b"\x1f\x8b", "is a gzip archive", "Unpack it, and give the file in it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "Unpack it, and give the file in it"),
    (b"Rar!\x1a\x07", "is a RAR archive", "Unpack it, and give the file in it"),
)
PAGES = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights on disk.

    `path` is a file, or a folder as diffusers and transformers save one. `options` holds what the weights cannot say of themselves
    (which of SimSwap's heads they belong to). `components` are further checkpoints that the generator needs, by role.
    """

    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    components: Mapping[str, Checkpoint] = field(default_factory=dict)

    def component(self, role: str) -> Checkpoint:
        """The checkpoint that plays `role`; CheckpointError if the manifest gives none."""
        if role not in self.components:
            raise CheckpointError(
                f"{self.path.name} needs a component {role!r}", f"Give it under `components: {{{role}: ...}}` in the manifest"
            )
        return self.components[role]

    def option(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes; for a folder, that of the files that are read of it, as `sha256_of_listing` makes it."""
    if path.is_dir():
        return sha256_of_listing({name: sha256_of(path / name) for name in folder_files(path)})
    try:
        with open_plain(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except InputError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.message}", error.fix) from None
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}", "Check the path and its permissions") from None


def sha256_of_listing(files: Mapping[str, str]) -> str:
    """The sha256 of a folder: that of the sorted list of its files, relative name and hex sha256 on each line."""
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sorted(files.items())).encode()).hexdigest()


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `start` (at least 9 bytes) is safetensors: the length of its header, then JSON."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def describe_other(start: bytes) -> tuple[str, str] | None:
    """What a file is that is no checkpoint, as the end of a sentence, and what to do; None if its first bytes tell nothing."""
    if start[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        return "is a web page, which a server sent in place of the file", "Open its address in a browser: it may want a login, or a click"
    for magic, what, fix in OTHERS:
        if start.startswith(magic):
            return what, fix
    if start[257:262] == b"ustar":
        return "is a tar archive", "Unpack it, and give the file in it"
    return None

"""A checkpoint on disk: where it is, what is said of it, and the sha256 of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generators.checkpoints.folders import folder_files
from generators.errors import CheckpointError


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
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}", "Check the path and its permissions") from None


def sha256_of_listing(files: Mapping[str, str]) -> str:
    """The sha256 of a folder: that of the sorted list of its files, relative name and hex sha256 on each line."""
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sorted(files.items())).encode()).hexdigest()

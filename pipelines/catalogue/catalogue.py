"""Known checkpoints: where each comes from, its form, what it was trained on, its licence, and where it lies on this machine.

`manifests/checkpoints.yaml` lists the official releases and the demo's own. A manifest may describe further ones under `checkpoints:`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from generators.checkpoints import Checkpoint, sha256_of
from generators.errors import CheckpointError, InputError
from pipelines.files import cache_folder, write_cache
from pipelines.manifest import yaml_lines

REGISTERED_FILE = "registered.yaml"


class CheckpointEntry(BaseModel):
    """One checkpoint.

    `file` is relative to the checkpoint folder, and may name a folder as diffusers saves one; `package` names a file that ships with this
    project. `url` or `hub` say where it comes from; `how` says it where neither can (an archive, a form to fill in).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    generators: tuple[str, ...] = ()
    file: str | None = None
    package: str | None = None
    url: str | None = None
    hub: str | None = None
    how: str | None = None
    form: str | None = None
    resolution: int | None = None
    trained_on: str | None = None
    licence: str
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    components: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    added: str | None = None  # when a user registered it, ISO 8601

    @model_validator(mode="after")
    def _one_place(self) -> CheckpointEntry:
        if (self.file is None) == (self.package is None):
            raise ValueError("give either `file` or `package`")
        return self

    @property
    def origin(self) -> str:
        """Where a person gets it, in one phrase."""
        if self.hub:
            return f"hf download {self.hub} --local-dir <checkpoints>/{self.file}"
        return self.how or self.url or "this project"


@dataclass(frozen=True)
class Catalogue:
    """Checkpoint entries by name, and the folder that their files lie in."""

    entries: Mapping[str, CheckpointEntry]
    folder: Path

    @classmethod
    def shipped(cls, folder: Path | None = None) -> Catalogue:
        """The catalogue that ships with the project, and over it what is registered in `folder`: by default $NTF_CHECKPOINTS, or
        `checkpoints` in the current directory."""
        folder = folder or Path(os.environ.get("NTF_CHECKPOINTS", "checkpoints"))
        registered = folder / REGISTERED_FILE
        return cls({**_shipped_entries(), **(_read_entries(registered) if registered.is_file() else {})}, folder)

    def joined(self, more: Mapping[str, CheckpointEntry]) -> Catalogue:
        return Catalogue({**self.entries, **more}, self.folder)

    def path(self, name: str) -> Path:
        """Where the checkpoint lies, whether it is there or not."""
        entry = self.entries[name]
        if entry.package is not None:
            return Path(str(resources.files("generators"))) / "demo" / entry.package
        return self.folder / str(entry.file)

    def missing(self, name: str) -> list[str]:
        """The names of the checkpoints, components included, that are not on this machine."""
        names = [name, *self.entries[name].components.values()]
        unknown = [each for each in names if each not in self.entries]
        if unknown:
            raise InputError(f"checkpoint {name} names the component {unknown[0]!r}, which is not listed", "Add it under `checkpoints`")
        return [each for each in names if not self.path(each).exists()]

    def sha256(self, name: str) -> str:
        """The sha256 of the file, from the cache where the file has not changed. CheckpointError if it is not the one in the catalogue."""
        found = cached_sha256(self.path(name))
        stated = self.entries[name].sha256
        if stated and found != stated:
            raise CheckpointError(
                f"{self.path(name)} is not the checkpoint {name}: its sha256 begins {found[:12]}, the catalogue says {stated[:12]}",
                "Fetch it again, or list it under a name of its own",
            )
        return found

    def checkpoint(self, name: str) -> Checkpoint:
        """What a generator loads."""
        entry = self.entries[name]
        return Checkpoint(self.path(name), entry.options, {role: self.checkpoint(each) for role, each in entry.components.items()})

    def identity(self, name: str) -> dict[str, Any]:
        """All of a checkpoint that decides pixels: the sha256 of it and of its components, and its options."""
        entry = self.entries[name]
        parts = {role: self.identity(each) for role, each in sorted(entry.components.items())}
        return {"sha256": self.sha256(name), "options": entry.options, "components": parts}


@cache
def _shipped_entries() -> dict[str, CheckpointEntry]:
    return _read_entries(Path(str(resources.files("manifests"))) / "checkpoints.yaml")


def _read_entries(path: Path) -> dict[str, CheckpointEntry]:
    """Entries by name from a YAML file. InputError names the line of the first that is wrong."""
    data, lines = yaml_lines.load(path)
    entries = {}
    for name, entry in (data or {}).items():
        try:
            entries[name] = CheckpointEntry.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            line = yaml_lines.line_of(lines, (name, *first["loc"]))
            raise InputError(f"{path}, line {line}: {name}: {first['msg']}") from None
    return entries


def cached_sha256(path: Path) -> str:
    """`sha256_of(path)`, remembered by size and modification time: a 4 GB checkpoint is read once, not at every plan."""
    return sha256_of(path) if path.is_dir() else cached_sha256s([path])[0]


def cached_sha256s(paths: Sequence[Path]) -> list[str]:
    """`cached_sha256` of many files, with the cache read and written once for all of them. CheckpointError if one cannot be read."""
    cache_file = cache_folder() / "sha256.json"
    known, fresh, found = _read_cache(cache_file), False, []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}", "Run `ntf plan` to see where it comes from") from None
        key, stamp = os.path.abspath(path), [status.st_size, status.st_mtime_ns]
        if known.get(key, [None])[:2] != stamp:
            known[key] = [*stamp, sha256_of(path)]
            fresh = True
        found.append(known[key][2])
    if fresh:
        write_cache(cache_file, known)
    return found


def _read_cache(file: Path) -> dict[str, list[Any]]:
    """The cache, parsed once for as long as the file does not change: a manifest with 50 checkpoints looks 50 times."""
    try:
        return _parsed_cache(file, file.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=1)
def _parsed_cache(file: Path, changed: int) -> dict[str, list[Any]]:
    return json.loads(file.read_text())

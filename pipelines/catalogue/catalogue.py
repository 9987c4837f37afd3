"""Known checkpoints: where each comes from, its form, what it was trained on, its licence, and where it lies on this machine.

`manifests/checkpoints.yaml` lists the official releases and the demo's own. A manifest may describe further ones under `checkpoints:`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from pipelines.catalogue.identity import cached_sha256
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
        unknown = [component for component in names if component not in self.entries]
        if unknown:
            raise InputError(f"checkpoint {name} names the component {unknown[0]!r}, which is not listed", "Add it under `checkpoints`")
        return [part for part in names if not self.path(part).exists()]

    def sha256(self, name: str) -> str:
        """The sha256 of the file, from the cache where the file has not changed. CheckpointError if it is not the one in the catalogue."""
        sha256 = cached_sha256(self.path(name))
        stated = self.entries[name].sha256
        if stated and sha256 != stated:
            raise CheckpointError(
                f"{self.path(name)} is not the checkpoint {name}: its sha256 begins {sha256[:12]}, the catalogue says {stated[:12]}",
                "Fetch it again, or list it under a name of its own",
            )
        return sha256

    def checkpoint(self, name: str) -> Checkpoint:
        """What a generator loads."""
        entry = self.entries[name]
        return Checkpoint(self.path(name), entry.options, {role: self.checkpoint(part) for role, part in entry.components.items()})

    def identity(self, name: str) -> dict[str, Any]:
        """All of a checkpoint that decides pixels: the sha256 of it and of its components, and its options."""
        entry = self.entries[name]
        parts = {role: self.identity(part) for role, part in sorted(entry.components.items())}
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

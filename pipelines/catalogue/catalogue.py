"""Known checkpoints: where each comes from, its form, what it was trained on, its licence, and where it lies on this machine.

`manifests/checkpoints.yaml` lists the official releases and the demo's own. A manifest may describe further ones under `checkpoints:`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, SerializationInfo, ValidationError, field_serializer, model_validator

from foreign.secrets import holds_login, shown, without_secrets
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.numbers import StrictNumbers
from pipelines.catalogue.identity import cached_sha256
from pipelines.catalogue.lock import LOCK_FILE, read_lock
from pipelines.manifest import yaml_lines

REGISTERED_FILE = "registered.yaml"
WITH_SECRETS = "with secrets"


class CheckpointEntry(StrictNumbers):
    """One checkpoint.

    `file` is relative to the checkpoint folder, and may name a folder as diffusers saves one; `package` names a file that ships with this
    project. `ntf fetch` gets it from `url`, then from the `mirrors`, or from the Hub's repository `hub`. With `member`, `url` is a zip
    archive and `member` the end of the path in it. `how` says what a person does where no program can: on which `page`, and what then.
    `licence` is what whoever wrote the entry noted, and `checked` says where they read it.
    `marks` are names of tensors (or, with a dot at the end, beginnings of names) that such a file has, whatever it is called.

    As JSON, which versions and reports keep, addresses are without their secrets; with the context `{WITH_SECRETS: True}` they are whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    generators: tuple[str, ...] = ()
    file: str | None = None
    package: str | None = None
    url: str | None = None
    mirrors: tuple[str, ...] = ()
    member: str | None = None
    hub: str | None = None
    revision: str | None = None  # of `hub`: a commit. If not given, the newest one at the first fetch, which lock.yaml then holds
    page: str | None = None
    how: str | None = None
    marks: tuple[str, ...] = ()
    size: int | None = Field(None, gt=0)  # bytes, where they are known
    parameters: float | None = Field(None, gt=0)  # of all its networks, in billions, where they are known
    form: str | None = None
    resolution: int | None = None
    trained_on: str | None = None
    licence: str
    checked: str | None = None  # where the licence was read; None if nobody checked it
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    components: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    added: str | None = None  # when a user registered it, ISO 8601

    @model_validator(mode="after")
    def _one_place(self) -> CheckpointEntry:
        if (self.file is None) == (self.package is None):
            raise ValueError("give either `file` or `package`")
        if self.member is not None and self.url is None:
            raise ValueError("`member` needs the `url` of a zip archive")
        if any(holds_login(address) for address in (self.url or "", *self.mirrors)):
            raise ValueError("an address holds a user's name or password: put them into ~/.netrc, which `ntf fetch` reads")
        return self

    @field_serializer("url", "mirrors", "page", "how", "checked", when_used="json")
    def _without_secrets(self, value: str | tuple[str, ...] | None, info: SerializationInfo) -> str | tuple[str, ...] | None:
        if value is None or (info.context or {}).get(WITH_SECRETS):
            return value
        if isinstance(value, tuple):
            return tuple(map(shown, value))
        return shown(value) if info.field_name == "url" else without_secrets(value)  # type: ignore[attr-defined]

    @property
    def memory(self) -> float | None:
        """GiB that the weights take on a device in the checkpoint's precision; what images need while they are made comes on top."""
        if self.parameters is None:
            return None
        width = 4 if self.options.get("precision", "float32") == "float32" else 2
        return self.parameters * 1e9 * width / 2**30

    @property
    def is_fetchable(self) -> bool:
        """Whether `ntf fetch` can get it. If not, a person must."""
        return bool(self.url or self.hub)

    @property
    def variant(self) -> str | None:
        """The variant of a folder's weights that goes first, such as "fp16": an option, because it decides pixels."""
        return self.options.get("variant")

    @property
    def origin(self) -> str:
        """Where a person gets it, in one phrase."""
        if self.hub:
            return f"https://huggingface.co/{self.hub}"
        if self.url:
            return f"{shown(self.url)}, {self.member} in it" if self.member else shown(self.url)
        return without_secrets(": ".join(filter(None, (self.page, self.how)))) or "this project"

    @property
    def licence_note(self) -> str:
        """The licence as it was noted, where it was read, and where a person reads it, in one phrase."""
        place = f"https://huggingface.co/{self.hub}" if self.hub else shown(self.page or self.url or "")
        seen = f"from {without_secrets(self.checked)}" if self.checked else "not checked"
        return f"licence as this project noted it ({seen}): {self.licence}" + (f"; read it at {place}" if place else "")


@dataclass(frozen=True)
class Catalogue:
    """Checkpoint entries by name, and the folder that their files lie in."""

    entries: Mapping[str, CheckpointEntry]
    folder: Path
    locked: Mapping[str, str] = field(default_factory=dict)  # what was fetched: `file` to its sha256
    revisions: Mapping[str, str] = field(default_factory=dict)  # of what was fetched from the Hub: `file` to its commit
    _known: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)  # sha256 by name, asked for before

    @classmethod
    def shipped(cls, folder: Path | None = None) -> Catalogue:
        """The catalogue that ships with the project, and over it what is registered in `folder`: by default $NTF_CHECKPOINTS, or
        `checkpoints` in the current directory."""
        folder = folder or Path(os.environ.get("NTF_CHECKPOINTS", "checkpoints"))
        registered = folder / REGISTERED_FILE
        entries = {**_shipped_entries(), **(_read_entries(registered) if registered.is_file() else {})}
        lock = read_lock(folder)
        revisions = {file: locked.revision for file, locked in lock.items() if locked.revision}
        return cls(entries, folder, {file: locked.sha256 for file, locked in lock.items()}, revisions)

    def joined(self, more: Mapping[str, CheckpointEntry]) -> Catalogue:
        return Catalogue({**self.entries, **more}, self.folder, self.locked, self.revisions)

    def path(self, name: str) -> Path:
        """Where the checkpoint lies, whether it is there or not."""
        entry = self.entries[name]
        if entry.package is not None:
            return Path(str(resources.files("generators"))) / "demo" / entry.package
        return self.folder / str(entry.file)

    def revision(self, name: str) -> str | None:
        """The commit of its Hub repository that is wanted: as its entry says, or that of the first fetch; None for the newest."""
        return self.entries[name].revision or self.revisions.get(str(self.entries[name].file))

    def origin(self, name: str) -> str:
        """Where a person gets it, in one phrase, with the commit where one is wanted."""
        entry, revision = self.entries[name], self.revision(name)
        if not entry.hub or not revision:
            return entry.origin
        return f"{entry.origin}, revision {revision[:12]}{'' if entry.revision else f', which {LOCK_FILE} holds'}"

    def missing(self, name: str) -> list[str]:
        """The names of the checkpoints, components included, that are not on this machine."""
        names = [name, *self.entries[name].components.values()]
        unknown = [component for component in names if component not in self.entries]
        if unknown:
            raise InputError(f"checkpoint {name} names the component {unknown[0]!r}, which is not listed", "Add it under `checkpoints`")
        return [part for part in names if not is_here(self.path(part))]

    def sha256(self, name: str) -> str:
        """The sha256 of the file, or of the files of a folder that are read. A catalogue asks for it once, so making images never does.

        CheckpointError if it is not the one that the entry states, or not what was fetched (`lock.yaml`).
        """
        if name not in self._known:
            self._known[name] = self._checked_sha256(name)
        return self._known[name]

    def stated_sha256(self, name: str) -> str | None:
        """The sha256 that the checkpoint must have: as its entry says, or as it was when it was fetched; None if neither is known."""
        return self.entries[name].sha256 or self.locked.get(str(self.entries[name].file))

    def _checked_sha256(self, name: str) -> str:
        entry, path = self.entries[name], self.path(name)
        sha256 = cached_sha256(path, entry.variant)
        if entry.sha256 and sha256 != entry.sha256:
            raise CheckpointError(
                f"{path} is not the checkpoint {name}: its sha256 begins {sha256[:12]}, the catalogue says {entry.sha256[:12]}",
                "Fetch it again, or list it under a name of its own",
            )
        locked = self.locked.get(str(entry.file))
        if locked and sha256 != locked:
            raise CheckpointError(
                f"{path} is not what was fetched: its sha256 begins {sha256[:12]}, {LOCK_FILE} says {locked[:12]}",
                f"Remove it and fetch it again, or take its lines out of {self.folder / LOCK_FILE} if it was changed on purpose",
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


def is_here(path: Path) -> bool:
    """Whether something is at `path`. An empty folder, as an unpacking that failed leaves one, is nothing, and neither is a path that no
    file can have."""
    try:
        return os.path.exists(path) and not (os.path.isdir(path) and not any(os.scandir(path)))
    except OSError:  # a folder that may not be looked into
        return True


@cache
def _shipped_entries() -> dict[str, CheckpointEntry]:
    return _read_entries(Path(str(resources.files("manifests"))) / "checkpoints.yaml")


def _read_entries(path: Path) -> dict[str, CheckpointEntry]:
    """Entries by name from a YAML file. InputError names the line of the first that is wrong."""
    data, lines = yaml_lines.load_mapping(path)
    entries = {}
    for name, entry in data.items():
        try:
            entries[name] = CheckpointEntry.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            line = yaml_lines.line_of(lines, (name, *first["loc"]))
            raise InputError(f"{path}, line {line}: {name}: {first['msg']}") from None
    return entries

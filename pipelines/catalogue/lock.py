"""What was fetched: `lock.yaml` in the checkpoint folder, with the sha256 of every file.

The first fetch of a file is trusted. From then on the same file is wanted: a later difference is an error, here and on the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import filelock
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from generators.errors import InputError
from generators.files import write_text
from pipelines.manifest import yaml_lines

LOCK_FILE = "lock.yaml"


class Locked(BaseModel):
    """One fetched file or folder: its sha256, where it came from, the licence that was accepted, and when (ISO 8601).

    Of a folder, `sha256` is that of the files that are read, `files` those files with the sha256 of each, and `revision` the commit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: str
    licence: str
    fetched: str
    revision: str | None = None
    files: dict[str, str] = Field(default_factory=dict)


def read_lock(folder: Path) -> dict[str, Locked]:
    """What `lock.yaml` holds, by the entry's `file`. InputError names the line of what is wrong in it."""
    path = folder / LOCK_FILE
    if not path.is_file():
        return {}
    data, lines = yaml_lines.load_mapping(path)
    entries: dict[str, Locked] = {}
    for file, entry in data.items():
        try:
            entries[file] = Locked.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            line = yaml_lines.line_of(lines, (file, *first["loc"]))
            key = "".join(f".{part}" for part in first["loc"])
            raise InputError(
                f"{path}, line {line}: {file}{key}: {first['msg']}", "Take the lines of that file out, and fetch it again"
            ) from None
    return entries


def add_to_lock(folder: Path, file: str, entry: Locked) -> None:
    """Notes what was fetched as `file`. Two processes may do so at the same time."""
    path = folder / LOCK_FILE
    with filelock.FileLock(folder / f".{LOCK_FILE}.lock"):
        data: dict[str, Any] = {name: locked.model_dump(exclude_defaults=True) for name, locked in read_lock(folder).items()}
        data[file] = entry.model_dump(exclude_defaults=True)
        write_text(path, yaml.safe_dump(data, sort_keys=True))

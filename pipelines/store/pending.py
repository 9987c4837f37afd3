"""Shards that are written and not yet committed.

A worker writes a shard as a Lance fragment, which no reader sees, and then notes the fragment in a small JSON file of its own. The note
appears whole or not at all, so after a kill a shard is either noted, and need not be made again, or it is not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Note:
    """A shard's fragment, and what is worth knowing of it without reading it."""

    key: str
    title: str
    fragment: dict[str, Any]
    written: int
    rejected: dict[str, int]
    short: int  # planned images that no attempt could make
    seconds: float

    @property
    def files(self) -> list[tuple[str, int]]:
        """Name and size of the data files of the fragment."""
        return [(file["path"], file["file_size_bytes"]) for file in self.fragment["files"]]


class Notes:
    """The folder of notes beside a Lance dataset."""

    def __init__(self, folder: Path, data: Path):
        self.folder = folder
        self._data = data

    def write(self, note: Note) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{note.key}.{os.getpid()}.partial"
        with partial.open("w") as stream:
            json.dump(asdict(note), stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.folder / f"{note.key}.json")

    def read(self) -> dict[str, Note]:
        """All notes whose fragments are whole, by key. A note that cannot be read, or whose file has gone, is as if it were not there."""
        return {note.key: note for note in self._each() if self._is_whole(note)}

    def drop(self, keys: Iterator[str] | list[str]) -> None:
        for key in keys:
            (self.folder / f"{key}.json").unlink(missing_ok=True)

    def _each(self) -> Iterator[Note]:
        if not self.folder.is_dir():
            return
        for file in sorted(self.folder.glob("*.json")):
            try:
                yield Note(**json.loads(file.read_text()))
            except (OSError, ValueError, TypeError):
                continue

    def _is_whole(self, note: Note) -> bool:
        try:
            return all((self._data / name).stat().st_size == size for name, size in note.files)
        except OSError:
            return False

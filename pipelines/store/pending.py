"""Shards that are written and not yet committed.

A worker writes a shard as a Lance fragment, which no reader sees, and then notes the fragment in a small JSON file of its own. The note
appears whole or not at all, so after a kill a shard is either noted, and need not be made again, or it is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.place import Place


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
    digest: str = ""  # the sum of its rows (`Digest.text`); "" in notes of earlier releases

    def is_sound(self) -> bool:
        """Whether the fields are of their types. Raises KeyError or TypeError if the list of files has another form."""
        texts, counts = (self.key, self.title, self.digest), (self.written, self.short, *self.rejected.values())
        names = all(isinstance(name, str) and type(size) is int for name, size in self.files)
        return names and all(isinstance(text, str) for text in texts) and all(type(count) is int and count >= 0 for count in counts)

    @property
    def files(self) -> list[tuple[str, int]]:
        """Name and size of the data files of the fragment."""
        return [(file["path"], file["file_size_bytes"]) for file in self.fragment["files"]]


class Notes:
    """The notes beside a Lance dataset: `place` is their folder, `data` the one with the dataset's data files."""

    def __init__(self, place: Place, data: Place):
        self._place = place
        self._data = data

    @property
    def folder(self) -> Path:
        """The folder of the notes, where the store is local."""
        return Path(self._place.location)

    def write(self, note: Note) -> None:
        self._place.write(f"{note.key}.json", json.dumps(asdict(note)).encode())

    def get(self, key: str) -> Note | None:
        """The note of one shard. One that cannot be read is as if it were not there."""
        data = self._place.read(f"{key}.json")
        try:
            note = Note(**json.loads(data)) if data else None
            return note if note is None or note.is_sound() else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def read(self) -> dict[str, Note]:
        """All notes whose fragments are whole, by key. A note whose data file has gone or has another size is as if it were not there."""
        names = [name.removesuffix(".json") for name in self._place.sizes() if name.endswith(".json")]
        if not names:
            return {}
        notes = [note for note in map(self.get, sorted(names)) if note is not None]
        sizes = self._data.sizes_of([name for note in notes for name, _ in note.files])
        return {note.key: note for note in notes if all(sizes.get(name) == size for name, size in note.files)}

    def keys(self) -> set[str]:
        """The keys of the shards that have a note, without a look into the notes."""
        return {name.removesuffix(".json") for name in self._place.sizes() if name.endswith(".json") and not name.startswith(".")}

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._place.remove(f"{key}.json")

    def leftovers(self) -> list[str]:
        """Files that a killed writer left: half-written notes, and notes whose fragments are not whole."""
        whole = {f"{key}.json" for key in self.read()}
        return sorted(name for name in self._place.sizes() if name not in whole)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._place.remove(name)

"""What is recorded of each version beside Lance's own manifests, so that a loss is seen.

A record is a small JSON file, `NAME.versions/NUMBER.json`: the version's digest and rows, the sha256 of its manifest, and for each data
file that came with it the sum of its rows (`Digest.text`). So a version whose manifest has gone is missed, a spoilt row is traced to its
file, and a commit need not read again what is there. A version of an older store, or one whose builder was killed just after the commit,
has no record: then nothing of this is known, and nothing is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from pipelines.place import Place

CONTENTS = ".contents"  # the ending of the file that says which shard lies in which fragment of a version
LAST = 2**64 - 1  # Lance names the manifest of version N by LAST - N, so that the newest is listed first


@dataclass(frozen=True)
class Record:
    """What is known of one version. `sums` has the data files that it added."""

    number: int
    digest: str
    rows: int
    manifest: str  # the sha256 of its manifest
    sums: dict[str, str]
    titles: dict[str, str] = field(default_factory=dict)  # the shard in each of them, as far as it is known

    def is_sound(self) -> bool:
        """Whether the fields are of their types."""
        texts = (self.digest, self.manifest, *self.sums, *self.sums.values(), *self.titles.values())
        return type(self.number) is int and type(self.rows) is int and all(isinstance(text, str) for text in texts)


class Records:
    """The records of a dataset: `place` is their folder, `manifests` Lance's folder `_versions`."""

    def __init__(self, place: Place, manifests: Place):
        self.place = place
        self.manifests = manifests
        self._read: dict[int, Record] = {}

    def files(self) -> dict[int, str]:
        """The name of the manifest of every version that has one, by number, oldest first."""
        return dict(sorted((number, file) for file in self.manifests.sizes() if (number := _number_of(file)) is not None))

    def numbers(self) -> list[int]:
        """The versions that have a record, oldest first."""
        stems = [name.removesuffix(".json") for name in self.place.sizes() if name.endswith(".json")]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def get(self, number: int) -> Record | None:
        """The record of a version. One that cannot be read is as if it were not there."""
        if number not in self._read:
            data = self.place.read(f"{number}.json")
            try:
                record = Record(**json.loads(data)) if data else None
                if record is None or not record.is_sound():
                    return None
            except (ValueError, TypeError, AttributeError, RecursionError):
                return None
            self._read[number] = record
        return self._read[number]

    def sums(self) -> dict[str, str]:
        """The sum of the rows of every data file that is known, by the file's name."""
        records = [record for record in map(self.get, self.numbers()) if record]
        return {file: text for record in records for file, text in record.sums.items()}

    def titles(self) -> dict[str, str]:
        """The shard in every data file that is known, by the file's name."""
        records = [record for record in map(self.get, self.numbers()) if record]
        return {file: title for record in records for file, title in record.titles.items()}

    def write(self, number: int, digest: str, rows: int, sums: Mapping[str, str], titles: Mapping[str, str]) -> Record:
        """Records a version that is committed."""
        record = Record(number, digest, rows, self.manifest_sha256(number), dict(sums), dict(titles))
        self._write(record)
        return record

    def state(self, number: int) -> tuple[datetime, int] | None:
        """The time of the last change and the size of a version's manifest; None if it is not there."""
        return next((state for file, state in self.manifests.states().items() if _number_of(file) == number), None)

    def manifest_sha256(self, number: int) -> str:
        """The sha256 of a version's manifest, "" if it is not there."""
        file = self.files().get(number)
        data = self.manifests.read(file) if file else None
        return hashlib.sha256(data).hexdigest() if data is not None else ""

    def forget(self, numbers: Iterable[int], needed: Iterable[str] = ()) -> None:
        """Removes the records of versions. The sums of their files that others still need (`needed`) move to the oldest that is left."""
        gone = set(numbers)
        records = [record for record in map(self.get, self.numbers()) if record]
        keep = set(needed)
        moved = {file: text for record in records if record.number in gone for file, text in record.sums.items() if file in keep}
        heir = next((record for record in records if record.number not in gone), None)
        if heir and moved:
            titles = {file: title for file, title in self.titles().items() if file in moved}
            self._write(replace(heir, sums={**moved, **heir.sums}, titles={**titles, **heir.titles}))
        for number in gone:
            self.place.remove(f"{number}.json")
            self.place.remove(f"{number}{CONTENTS}")
            self._read.pop(number, None)

    def _write(self, record: Record) -> None:
        self.place.write(f"{record.number}.json", json.dumps(asdict(record)).encode())
        self._read[record.number] = record


def _number_of(file: str) -> int | None:
    """The version whose manifest has this name; None for any other file."""
    stem, _, ending = file.partition(".")
    if ending != "manifest" or not (stem.isascii() and stem.isdigit()):
        return None
    return LAST - int(stem) if int(stem) > LAST // 2 else int(stem)

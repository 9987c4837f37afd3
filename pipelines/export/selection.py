"""The images that an export takes, streamed in an order that is shuffled by their ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from generators.errors import InputError
from pipelines.manifest.splits import SPLITS, Split
from pipelines.reading import usable
from pipelines.store import Store
from pipelines.store.damage import damaged
from pipelines.store.schema import SCHEMA, parsed, quoted
from pipelines.store.upgrade import read_rows, take_rows

BATCH_IMAGES = 64


class Exportable(NamedTuple):
    """One image to export. `mask` is a PNG of its size, white where it was reworked, or None where nobody knows."""

    row: dict[str, Any]
    image: bytes
    mask: bytes | None


@dataclass(frozen=True)
class Selection:
    """Rows of one version by split: where they lie, in the order of the sha256 of their ids. It never holds more than a batch of images."""

    store: Store
    version: int
    addresses: dict[Split, list[int]]
    subsets: Counter[str]
    counts: Counter[tuple[str, str, str]]  # subset, role ("final" or "real"), split
    delivery: str = ""

    @classmethod
    def of(
        cls, store: Store, version: int | str | None = None, where: str | None = None, split: Split | None = None, delivery: str = ""
    ) -> Selection:
        """The final images and reals for which the SQL expression `where` holds, of one split or all; as a delivery left them, if it is
        named. InputError if there are none."""
        dataset = store.dataset(version)
        condition = usable(dataset, delivery) + (f" AND ({where})" if where else "") + (f" AND split = {quoted(split)}" if split else "")
        try:
            table = read_rows(dataset, ["id", "subset", "label", "split"], condition, row_ids=True)
        except InputError:
            raise
        except (ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"the filter {where!r} cannot be used ({reason})", "It is SQL over the store's columns") from None
        if not table.num_rows:
            raise InputError(f"{store.name} has no images for {where or split}", "See `ntf store show`")
        rows = sorted(table.to_pylist(), key=lambda row: hashlib.sha256(row["id"].encode()).digest())
        addresses = {name: [row["_rowid"] for row in rows if row["split"] == name] for name in SPLITS}
        counts = Counter((row["subset"], "final" if row["label"] else "real", row["split"]) for row in rows)
        return cls(store, dataset.version, addresses, Counter(row["subset"] for row in rows), counts, delivery)

    @property
    def splits(self) -> list[Split]:
        return [split for split in SPLITS if self.addresses[split]]

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.addresses.values())

    def tables(self, split: Split) -> Iterator[pa.Table]:
        """The rows of a split with their images, some at a time."""
        dataset = self.store.dataset(self.version)
        rows = self.addresses[split]
        for start in range(0, len(rows), BATCH_IMAGES):
            table = take_rows(dataset, rows[start : start + BATCH_IMAGES], SCHEMA.names)
            for name, image, sha256 in zip(*(table[column].to_pylist() for column in ("id", "image", "sha256")), strict=True):
                if hashlib.sha256(image or b"").hexdigest() != sha256:  # nobody would find it again once it is elsewhere
                    raise damaged(self.store.name, f"{name} is not the image that was stored: its sha256 differs")
            yield table

    def rows(self, split: Split) -> Iterator[Exportable]:
        """Each row of a split as plain data (chain and measures parsed), its encoded image, and its mask if it has one."""
        for table in self.tables(split):
            for row in table.to_pylist():
                image, mask = row.pop("image"), row.pop("mask")
                yield Exportable({**row, "chain": parsed(row, "chain"), "measures": parsed(row, "measures")}, image, mask)

"""The digest: one number that tells whether two stores hold the same dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from pipelines.store.schema import FILLED, FIRST_COLUMNS, LATER_COLUMNS

_MODULUS = 2**256


class Digest:
    """The sum, modulo 2^256, of the sha256 of every row, hashed once more with the number of rows.

    A sum does not depend on the order of rows or on how they lie in fragments, and takes the same memory for a billion of them. A row
    counts with all its columns but the image, whose bytes its `sha256` stands for. A column that came with a later schema counts only where
    it says more than its absence would, so that a row of an older store has the same digest before and after the upgrade.
    """

    def __init__(self) -> None:
        self._sum = 0
        self.rows = 0

    def add(self, batches: Iterable[pa.RecordBatch]) -> Digest:
        """Takes in rows with all light columns, named as the schema of today names them."""
        for batch in batches:
            columns = [batch.column(name).to_pylist() for name in FIRST_COLUMNS]
            later = [batch.column(name).to_pylist() for name in LATER_COLUMNS]
            for row, values in enumerate(zip(*columns, strict=True)):
                text = "\x1f".join("\x00" if value is None else str(value) for value in values)
                for name, column in zip(LATER_COLUMNS, later, strict=True):
                    if column[row] != FILLED.get(name):
                        text += f"\x1f{name}={column[row]}"
                self._sum = (self._sum + int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")) % _MODULUS
            self.rows += batch.num_rows
        return self

    def take(self, text: str) -> Digest:
        """Takes in the rows that another digest took in, by its `text`. Raises ValueError for anything else."""
        rows, _, total = text.partition(":")
        self._sum = (self._sum + int(total, 16)) % _MODULUS
        self.rows += int(rows)
        return self

    def take_all(self, rows: Iterable[int], sums: Iterable[bytes]) -> Digest:
        """Takes in what many other digests took in, by their numbers of rows and their sums of 32 bytes."""
        self._sum = (self._sum + sum(int.from_bytes(part, "big") for part in sums)) % _MODULUS
        self.rows += sum(rows)
        return self

    @property
    def text(self) -> str:
        """The number of rows and the sum, before they are hashed."""
        return f"{self.rows}:{self._sum:064x}"

    def hex(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

"""Images that look the same and lie in different splits, by their perceptual hashes.

Splits go by photograph and person, so an image and what was made from it are together. What can still leak is the same photograph under two
names, and generators that repeat themselves or a training image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from generators.errors import InputError
from pipelines.manifest.splits import SPLITS
from pipelines.store import Store, Version

DISTANCE = 4  # of 64 bits
MAX_PAIRS = 100_000
CHUNK = 256


@dataclass(frozen=True)
class Pair:
    """Two images of different splits, `first` in the earlier of train, validation, test; in how many of 64 bits their hashes differ."""

    first: str
    first_split: str
    second: str
    second_split: str
    distance: int


def find_duplicates(store: Store, version: int | str | None = None, distance: int = DISTANCE) -> list[Pair]:
    """All pairs of final images and reals across splits whose hashes differ in at most `distance` bits, nearest first.

    Every pair is compared, in chunks: some seconds for 100,000 images. InputError if more than `MAX_PAIRS` are found.
    """
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    hashes: dict[str, list[int]] = {split: [] for split in SPLITS}
    condition = "role IN ('final', 'real') AND phash IS NOT NULL"
    for batch in store.scan(["id", "split", "phash"], condition, version):
        for row in batch.to_pylist():
            names[row["split"]].append(row["id"])
            hashes[row["split"]].append(int(row["phash"], 16))
    pairs: list[Pair] = []
    for first, second in combinations(SPLITS, 2):
        left, right = np.array(hashes[first], np.uint64), np.array(hashes[second], np.uint64)
        for start in range(0, len(left), CHUNK):
            distances = np.bitwise_count(left[start : start + CHUNK, None] ^ right[None, :])
            rows, columns = np.nonzero(distances <= distance)
            if len(pairs) + len(rows) > MAX_PAIRS:
                raise InputError(f"more than {MAX_PAIRS:,} pairs differ in at most {distance} bits", "Ask for fewer with --distance")
            pairs += [
                Pair(names[first][start + row], first, names[second][column], second, int(distances[row, column]))
                for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


def drop_duplicates(store: Store, distance: int = DISTANCE) -> tuple[Version | None, list[str]]:
    """Makes a version without one image of each pair: the one in train, or in validation where the other is in test, so that the test split
    stays as it is. Returns it with the ids that it lacks; no version if there are no pairs."""
    with store.building():
        gone: set[str] = set()
        for pair in find_duplicates(store, None, distance):
            if pair.first not in gone and pair.second not in gone:
                gone.add(pair.first)
        if not gone:
            return None, []
        return store.without(gone, {**store.version().inheritable, "duplicates_dropped": str(len(gone))}), sorted(gone)

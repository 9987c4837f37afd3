"""Images that look the same: across splits, across subsets, or anywhere, by their perceptual hashes.

Splits go by photograph and person, so an image and what was made from it are together. What can still leak is the same photograph under two
names, and generators that repeat themselves or a training image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np

from generators.errors import InputError
from pipelines.examine.similar import near_hashes, near_vectors
from pipelines.manifest.splits import SPLITS
from pipelines.store import Store, Version

DISTANCE = 4  # of 64 bits
SIMILARITY = 0.95  # cosine of features
MAX_PAIRS = 100_000
Among = Literal["splits", "subsets", "all"]


@dataclass(frozen=True)
class Pair:
    """Two images that look the same, `first` in the earlier of train, validation, test; in how many of 64 bits their hashes differ, or (by
    features) the cosine of the two."""

    first: str
    first_split: str
    second: str
    second_split: str
    distance: int
    similarity: float | None = None


@dataclass(frozen=True)
class _Image:
    """What decides whether two images are a pair. `origin` is the real image that an image is or was made from, or its group."""

    id: str
    split: str
    subset: str
    origin: str


def find_duplicates(store: Store, version: int | str | None = None, distance: int = DISTANCE, among: Among = "splits") -> list[Pair]:
    """All pairs of final images and reals whose hashes differ in at most `distance` bits, nearest first: those in different splits, those
    in different subsets (a real's subset is its source), or all.

    Images that were made from each other or from the same real image look the same by intention: they are no pair. Found by an index
    (`similar.near_hashes`). InputError if more than `MAX_PAIRS` are found.
    """
    images, hashes = [], []
    for row in _rows(store, version, ["phash"], "phash IS NOT NULL"):
        images.append(_image(row))
        hashes.append(int(row["phash"], 16))
    values, places = np.unique(np.array(hashes, np.uint64), return_inverse=True)
    members: list[list[int]] = [[] for _ in values]
    for number, place in enumerate(places.tolist()):
        members[place].append(number)
    pairs: list[Pair] = []
    for group in members:
        _add(pairs, _within(images, group, among), 0, None)
    for left, right, bits in near_hashes(values, distance):
        _add(pairs, _across(images, members[left], members[right], among), bits, None)
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


def find_similar(
    ids: Sequence[str],
    features: np.ndarray,
    store: Store,
    version: int | str | None = None,
    similarity: float = SIMILARITY,
    among: Among = "splits",
) -> list[Pair]:
    """As `find_duplicates`, of images whose `features` (float `[N, D]`, of the images `ids`) have a cosine of at least `similarity`, most
    alike first. The index (`similar.near_vectors`) misses a pair at the bound once in a hundred times, and nearer ones less often."""
    known = {row["id"]: _image(row) for row in _rows(store, version, [], "sha256 IS NOT NULL")}
    images = [known[name] for name in ids]
    pairs: list[Pair] = []
    for left, right, cosine in near_vectors(features, similarity):
        _add(pairs, _across(images, [left], [right], among), 0, round(cosine, 4))
    return sorted(pairs, key=lambda pair: (-(pair.similarity or 0), pair.first, pair.second))


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


def _rows(store: Store, version: int | str | None, also: list[str], condition: str) -> Iterator[dict[str, Any]]:
    columns = ["id", "split", "subset", "role", "group", "target_id", *also]
    for batch in store.scan(columns, f"role IN ('final', 'real') AND {condition}", version):
        yield from batch.to_pylist()


def _image(row: dict[str, Any]) -> _Image:
    target = row["target_id"] or ""
    origin = row["id"] if row["role"] == "real" else target if target.startswith("real/") else row["group"]
    return _Image(row["id"], row["split"], row["subset"], origin)


def _parts(images: list[_Image], group: list[int], among: Among) -> dict[str, list[_Image]]:
    """The images of a group by their split or subset; each alone where all pairs count."""
    parts: dict[str, list[_Image]] = {}
    for number in group:
        image = images[number]
        key = image.split if among == "splits" else image.subset if among == "subsets" else image.id
        parts.setdefault(key, []).append(image)
    return parts


def _within(images: list[_Image], group: list[int], among: Among) -> Iterator[tuple[_Image, _Image]]:
    for one, other in combinations(_parts(images, group, among).values(), 2):
        yield from _unrelated(one, other)


def _across(images: list[_Image], left: list[int], right: list[int], among: Among) -> Iterator[tuple[_Image, _Image]]:
    others = _parts(images, right, among)
    for key, part in _parts(images, left, among).items():
        for other, own in others.items():
            if other != key:
                yield from _unrelated(part, own)


def _unrelated(left: list[_Image], right: list[_Image]) -> Iterator[tuple[_Image, _Image]]:
    return ((one, other) for one, other in product(left, right) if one.origin != other.origin)


def _add(pairs: list[Pair], found: Iterator[tuple[_Image, _Image]], distance: int, similarity: float | None) -> None:
    for two in found:
        first, second = sorted(two, key=lambda image: (SPLITS.index(image.split), image.id))
        pairs.append(Pair(first.id, first.split, second.id, second.split, distance, similarity))
        if len(pairs) > MAX_PAIRS:
            alike = "are so similar" if similarity is not None else f"differ in at most {distance} bits"
            raise InputError(f"more than {MAX_PAIRS:,} pairs {alike}", "Ask for fewer with --distance or --similarity")

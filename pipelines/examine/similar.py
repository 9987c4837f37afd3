"""Near neighbours by an index: hashes of 64 bits that differ in few of them, and vectors that point the same way.

Not all pairs are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

BITS = 64
CHUNK = 1024  # rows of a bucket that are compared with the whole bucket at once
MISSED = 0.01  # of the pairs at the bound
MOST_TABLES = 400


def near_hashes(hashes: np.ndarray, distance: int) -> Iterator[tuple[int, int, int]]:
    """All pairs (left < right) of `hashes` (uint64 `[N]`, no two equal) that differ in at most `distance` bits, each once, and in how many.

    The bits are divided into `distance + 1` bands. Two hashes that differ in at most `distance` bits agree in one band at least, so only
    those are compared that do (Manku, Jain, Das Sarma 2007). Nothing is missed.
    """
    bands = _bands(distance + 1)
    for number, band in enumerate(bands):
        for bucket in _buckets(hashes & band):
            own = hashes[bucket]
            for start in range(0, len(bucket), CHUNK):
                difference = own[start : start + CHUNK, None] ^ own[None, :]
                near = np.bitwise_count(difference) <= distance
                for before in bands[:number]:  # they met there already
                    near &= difference & before != 0
                rows, columns = np.nonzero(near)
                for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
                    if row < column:
                        left, right = sorted((int(bucket[row]), int(bucket[column])))
                        yield left, right, int(difference[row - start, column].bit_count())


def near_vectors(vectors: np.ndarray, similarity: float) -> Iterator[tuple[int, int, float]]:
    """Pairs (left < right) of rows of `vectors` (float `[N, D]`) whose cosine is at least `similarity`, each once, with the cosine.

    Rows are compared that lie on the same side of a few random planes, for several draws of planes (Charikar 2002): so many that a pair
    at the bound is missed with a chance of `MISSED`, and nearer ones less often. The planes are always the same.
    """
    if len(vectors) < 2:
        return
    units = np.asarray(vectors, np.float64)
    units = units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    planes, tables = _planes(len(vectors), similarity)
    rng = np.random.default_rng(0)
    seen: set[tuple[int, int]] = set()
    for _ in range(tables):
        sides = units @ rng.normal(size=(units.shape[1], planes)) > 0
        for bucket in _buckets(sides @ (1 << np.arange(planes, dtype=np.int64))):
            for start in range(0, len(bucket), CHUNK):
                cosines = units[bucket[start : start + CHUNK]] @ units[bucket].T
                rows, columns = np.nonzero(cosines >= similarity)
                for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                    if row + start < column:
                        left, right = sorted((int(bucket[row + start]), int(bucket[column])))
                        if (left, right) not in seen:
                            seen.add((left, right))
                            yield left, right, float(cosines[row, column])


def _bands(count: int) -> list[np.uint64]:
    """Masks that divide the bits into `count` bands as equal as can be."""
    edges = [BITS * number // count for number in range(count + 1)]
    return [np.uint64(((1 << end) - (1 << begin)) & (2**BITS - 1)) for begin, end in pairwise(edges)]


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each key that more than one has."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], keys[order][1:] != keys[order][:-1]])) if len(keys) else np.empty(0, np.int64)
    for start, stop in zip(starts.tolist(), [*starts.tolist()[1:], len(keys)], strict=True):
        if stop - start > 1:
            yield order[start:stop]


def _planes(count: int, similarity: float) -> tuple[int, int]:
    """How many planes divide the rows, and how often they are drawn."""
    agree = 1 - np.arccos(np.clip(similarity, -1, 1)) / np.pi  # the chance that two rows at the bound are on one side of a plane
    planes = int(np.clip(np.log2(max(2, count)) - 3, 1, 24))
    tables = np.log(MISSED) / np.log1p(-min(agree**planes, 1 - 1e-9))
    while tables > MOST_TABLES and planes > 1:
        planes -= 1
        tables = np.log(MISSED) / np.log1p(-(agree**planes))
    return planes, int(np.ceil(max(1, tables)))

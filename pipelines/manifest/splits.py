"""Which split an image is in, decided before it is made.

Splits go by group: a photograph and everyone in it, an identity, one generated image. An image made from a real person (a swap) takes
that person from its own split, so an image, everything it was made from and everything made from it are always on the same side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Literal, overload

import numpy as np

from generators.seeding import SEED_BITS, derive_seed, seed_text, seeds_of
from pipelines.manifest.schema import Splits

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def split_of(group: str, splits: Splits) -> Split:
    """The split of a group. It depends on the group and on `splits` alone: what else is in the dataset moves nothing."""
    position = derive_seed("split", splits.seed, group) / 2**SEED_BITS
    if position < splits.train:
        return "train"
    return "validation" if position < splits.train + splits.validation else "test"


class SplitList(Sequence[Split]):
    """The splits of many images in a row, a byte for each, found out when somebody asks."""

    def __init__(self, count: int, find: Callable[[], np.ndarray]):
        """`find` gives places in `SPLITS`, uint8 `[count]`."""
        self._count = count
        self._find = find

    @classmethod
    def of(cls, splits: Sequence[Split]) -> SplitList:
        return splits if isinstance(splits, cls) else cls(len(splits), partial(_numbers, tuple(splits)))

    @cached_property
    def numbers(self) -> np.ndarray:
        return self._find()

    def part(self, start: int, stop: int) -> SplitList:
        """Those of the images from `start` to before `stop`."""
        numbers = self.numbers[start:stop]
        return SplitList(len(numbers), lambda: numbers)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Split: ...
    @overload
    def __getitem__(self, place: slice) -> list[Split]: ...
    def __getitem__(self, place: int | slice) -> Split | list[Split]:
        if isinstance(place, slice):
            return [SPLITS[number] for number in self.numbers[place].tolist()]
        return SPLITS[self.numbers[place]]

    def count(self, value: object) -> int:
        return int((self.numbers == SPLITS.index(value)).sum()) if value in SPLITS else 0


BLOCK = 1000  # images whose texts differ in the last three digits alone


def splits_of(prefix: str, count: int, splits: Splits) -> SplitList:
    """`split_of` of the groups PREFIX000000, PREFIX000001, and so on: of `count` images. Some fifteen times as fast as one by one."""
    return SplitList(count, partial(_numbers_of, prefix, count, splits))


def _numbers(splits: Sequence[Split]) -> np.ndarray:
    return np.array([SPLITS.index(split) for split in splits], np.uint8)


def _numbers_of(prefix: str, count: int, splits: Splits) -> np.ndarray:
    head = seed_text("split", splits.seed, prefix).encode()
    tails = [b"%03d" % number for number in range(BLOCK)]
    bounds = np.array([_first_at_least(splits.train), _first_at_least(splits.train + splits.validation)], np.uint64)
    numbers = np.empty(count, np.uint8)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        block = head + b"%03d" % (start // BLOCK)
        seeds = seeds_of(block + tail for tail in tails[: stop - start])
        numbers[start:stop] = np.searchsorted(bounds, seeds, side="right")
    return numbers


def _first_at_least(share: float) -> int:
    """The least seed whose position among all seeds, a rounded fraction, is not below `share`."""
    return bisect_left(range(2**SEED_BITS - 1), share, key=lambda seed: seed / 2**SEED_BITS)

"""Which split an image is in, decided before it is made.

Splits go by group: a photograph and everyone in it, an identity, one generated image. An image made from a real person (a swap) takes
that person from its own split, so an image, everything it was made from and everything made from it are always on the same side.
"""

from __future__ import annotations

from typing import Literal

from generators.seeding import SEED_BITS, derive_seed
from pipelines.manifest.schema import Splits

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def split_of(group: str, splits: Splits) -> Split:
    """The split of a group. It depends on the group and on `splits` alone: what else is in the dataset moves nothing."""
    position = derive_seed("split", splits.seed, group) / 2**SEED_BITS
    if position < splits.train:
        return "train"
    return "validation" if position < splits.train + splits.validation else "test"

"""Shards and the images in them: how they are named, and the seeds that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from generators.seeding import derive_seed
from pipelines.manifest.schema import Codec, Manifest
from pipelines.manifest.splits import Split, SplitList, split_of, splits_of

INTERMEDIATE_CODEC = Codec(format="png")

Role = Literal["real", "intermediate", "final", "delivered"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A unit of work. `key` is empty where a checkpoint or a real source is missing, so that it cannot be known.

    `subset`, `real`, `part` and `step` say which step of which chain: `real` names the real source of the part, and `part` is its number
    among the parts of the subset with that source, from 0. For a shard of real images `subset` is empty and `real` is the source. `start`
    and `stop` count images. `inputs` are the keys of the shards it works on. A delivered shard is the `delivery` of the one shard of
    reals or finals that its other fields describe.
    """

    role: Role
    subset: str
    real: str
    part: int
    step: int
    start: int
    stop: int
    key: str
    inputs: tuple[str, ...] = ()
    generator: str = ""
    checkpoint: str = ""
    delivery: str = ""

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def title(self) -> str:
        """What it is, for people: "SimSwap_LDM step 2 celebahq 0-255"."""
        work = f"{self.subset} step {self.step + 1}" if self.subset else "reals"
        work = f"{work} delivered as {self.delivery}" if self.delivery else work
        return f"{work} {part_name(self.real, self.part)} {self.start}-{self.stop - 1}"


def part_name(real: str, part: int) -> str:
    """The name of a part within its subset, in ids and seeds: its real source, and from the second part with that source on a number.

    No real source has a `+` in its name, so no two parts of a subset have one name.
    """
    return f"{real}+{part + 1}" if part else real


def part_seed(manifest: Manifest, subset: str, real: str, part: int) -> int:
    """The seed that all images of a part come from. A part that begins at another subset's images has that one's."""
    return derive_seed(manifest.seed, manifest.root(subset, real, part), part_name(real, part))


def image_seed(base: int, step: int, index: int, attempt: int) -> int:
    """The seed of one image of one step. `base` is the seed of its part, and `attempt` counts its replacements."""
    return derive_seed(base, step, index, attempt)


def image_id(subset: str, real: str, part: int, index: int) -> str:
    """The name of a planned image, the same for all steps and attempts."""
    return f"{subset}/{part_name(real, part)}/{index:06d}"


def image_split(manifest: Manifest, subset: str, real: str, part: int, index: int) -> Split:
    """The split of a planned fake, and so of everyone it is made from."""
    return split_of(image_group(manifest, subset, real, part, index), manifest.splits)


def image_splits(manifest: Manifest, subset: str, real: str, part: int, count: int) -> SplitList:
    """`image_split` of the first `count` planned fakes of a part."""
    return splits_of(image_group(manifest, subset, real, part, 0).removesuffix("000000"), count, manifest.splits)


def image_group(manifest: Manifest, subset: str, real: str, part: int, index: int) -> str:
    """What decides the split of a planned fake: its own id, or that of the image which it begins at. All images of one group show the same
    picture at different steps."""
    return image_id(manifest.root(subset, real, part), real, part, index)

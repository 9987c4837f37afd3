"""The plan: every shard of a manifest, with its key.

A shard is a few hundred consecutive images of one step of one part of a subset (or of one real source). Its key is the sha256 of all that
decides its pixels. The store holds shards by key, so a key that is there need not be made, and a key that no plan asks for is stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from generators.errors import InputError
from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.chains import ChainStep, Part
from pipelines.manifest.schema import Manifest
from pipelines.manifest.sizes import side_of
from pipelines.plan.keys import drawn_donor, key_of_delivered, key_of_reals, key_of_step, step_ingredients
from pipelines.plan.missing import Missing, missing_checkpoints, needed_checkpoints, open_pools, wrong_prompts
from pipelines.plan.pairs import Drawn, NobodyLeft, Pairing, person
from pipelines.plan.reals import RealImage, RealPool, splits_without_images
from pipelines.plan.shards import Role, Shard, image_splits, part_seed

UNKNOWN_PIXELS = 1024.0**2  # of a picture that is not there
BYTES_PER_PIXEL = {"png": 1.1, "jpeg": 0.35, "webp": 1.0}


@dataclass(frozen=True)
class Plan:
    """All shards, inputs before what is made from them, and all that is missing."""

    manifest: Manifest
    catalogue: Catalogue
    shards: tuple[Shard, ...]
    pools: dict[str, RealPool]
    missing: tuple[Missing, ...]
    warnings: tuple[str, ...]
    pairings: dict[tuple[str, str, int, int], Pairing] = field(default_factory=dict)  # by subset, real source, part and step
    delivered: tuple[Shard, ...] = ()  # of every delivery of the manifest; made when they are asked for

    @property
    def keys(self) -> frozenset[str]:
        """Of the clean shards."""
        return frozenset(shard.key for shard in self.shards)

    @property
    def delivered_keys(self) -> frozenset[str]:
        return frozenset(shard.key for shard in self.delivered if shard.key)

    def deliveries(self, names: Collection[str]) -> tuple[Shard, ...]:
        """The shards of some deliveries. InputError for a name that the manifest does not have."""
        for name in names:
            if name not in self.manifest.deliveries:
                known = ", ".join(self.manifest.deliveries) or "none: name some under `deliveries`"
                raise InputError(f"{self.manifest.dataset} has no delivery {name!r}", f"The manifest has: {known}")
        return tuple(shard for shard in self.delivered if shard.delivery in names)

    def part(self, shard: Shard) -> Part:
        return self.manifest.part(shard.subset, shard.real, shard.part)

    def step(self, shard: Shard) -> ChainStep:
        return self.part(shard).chain[shard.step]

    def shard_of(self, shard: Shard) -> Shard:
        """The planned shard of the same step of the same part, with the same first image. StopIteration if there is none."""
        wanted = (shard.subset, shard.real, shard.part, shard.step, shard.start)
        own = (other for other in self.shards if (other.subset, other.real, other.part, other.step, other.start) == wanted)
        return next(own)

    def draws(self, shard: Shard, index: int, attempt: int, chain: Sequence[dict[str, Any]] = ()) -> Drawn:
        """The real images that one planned fake is made from at the shard's step; `chain` is what was done to it before.

        Raises NobodyLeft if its split has nobody left.
        """
        avoid = {self._people[link[role]] for link in chain for role in ("source", "target") if link.get(role) in self._people}
        since = chain[-1]["attempt"] if chain and shard.step else 0  # a first step works on what no attempt makes again
        return self.pairings[shard.subset, shard.real, shard.part, shard.step].draw(index, attempt, avoid, since)

    def donor(self, shard: Shard, index: int, chain: Sequence[dict[str, Any]]) -> RealImage | None:
        """The real image whose past the final image `index` gets, once `chain` is what was done to it; None if its split has none."""
        target = chain[0].get("target")
        if target is not None:
            return self._reals.get(target)
        return drawn_donor(self.manifest, shard.subset, shard.real, shard.part, index, self.pools)

    def real_image(self, name: str | None) -> RealImage | None:
        """The real image of this id; None if no pool has it."""
        return self._reals.get(name or "")

    @cached_property
    def _reals(self) -> dict[str, RealImage]:
        return {image.id: image for pool in self.pools.values() for image in pool.images}

    @cached_property
    def _people(self) -> dict[str, str]:
        return {image.id: person(image) for pool in self.pools.values() for image in pool.images}

    def estimated_bytes(self) -> int:
        """What the images will take, from the usual bytes per pixel of the codec."""
        finals = BYTES_PER_PIXEL[self.manifest.codec.format]
        return int(
            sum(
                shard.count * self._pixels(shard) * (BYTES_PER_PIXEL["png"] if shard.role == "intermediate" else finals)
                for shard in self.shards
            )
        )

    def _pixels(self, shard: Shard) -> float:
        """How many pixels an image of a shard has; where sizes differ, those of the real source, or what its checkpoint makes."""
        side = side_of(self.manifest.size)
        if side is not None:
            return side**2
        entry = self.catalogue.entries.get(shard.checkpoint)
        if shard.subset and self.part(shard).chain[0].target is None and entry is not None and entry.resolution:
            return entry.resolution**2
        return self._pixels_of_reals.get(shard.real, UNKNOWN_PIXELS)

    @cached_property
    def _pixels_of_reals(self) -> dict[str, float]:
        """The mean of a sample of each real source."""
        return {name: pool.mean_pixels() for name, pool in self.pools.items()}

    def require_complete(self) -> None:
        """Raises InputError, naming the first missing thing and how many more there are."""
        if self.missing:
            first, more = self.missing[0], len(self.missing) - 1
            error = first.error()
            raise InputError(error.message + (f" (and {more} more: see `ntf plan`)" if more else ""), error.fix)


def make_plan(manifest: Manifest, catalogue: Catalogue | None = None) -> Plan:
    """The plan of a manifest. Nothing is made and nothing is written; files are only read for their sha256.

    What is missing, or there and no use, is in the plan's `missing`, all of it. The shards that need it have no key.
    """
    catalogue = (catalogue or Catalogue.shipped()).joined(manifest.checkpoints)
    checkpoints = missing_checkpoints(manifest, catalogue)
    pools, reals = open_pools(manifest)
    prompts = wrong_prompts(manifest)
    people: dict[str, Missing] = {}  # what a subset lacks
    shards = [*_real_shards(manifest, pools)]
    pairings: dict[tuple[str, str, int, int], Pairing] = {}
    finals: dict[tuple[str, str, int], dict[int, str]] = {}  # the keys of the final shards of each part, by their first image
    for subset, number, part in _origins_first(manifest):
        own = _pairings(subset, number, part, manifest, pools)
        if part.origin is not None:  # those who were drawn for its images, not others
            taken = [pairings[part.origin, part.real, number, step] for step in range(part.inherited)]
            own = [*taken, *own[part.inherited :]]
        pairings |= {(subset, part.real, number, step): pairing for step, pairing in enumerate(own)}
        above = finals.get((part.origin or "", part.real, number), {})
        absent: set[str | Path] = {*checkpoints, *prompts}
        try:
            own_shards = [*_chain_shards(subset, number, part, manifest, catalogue, pools, absent, own, above)]
        except NobodyLeft as error:
            title, licence = f"people for {subset}", manifest.reals[part.real].licence
            people[title] = Missing(title, "", error.fix, licence, (subset,), error.message)
            own_shards = [*_chain_shards(subset, number, part, manifest, catalogue, pools, absent, own, above, enough_people=False)]
        finals[subset, part.real, number] = {shard.start: shard.key for shard in own_shards if shard.role == "final"}
        shards += own_shards
    notes = tuple(note for pool in pools.values() for note in pool.notes)
    warnings = notes + tuple(
        f"real source {pool.name} has no image in the {split} split" for pool in pools.values() for split in splits_without_images(pool)
    )
    missing = (*checkpoints.values(), *reals.values(), *prompts.values(), *people.values())
    return Plan(manifest, catalogue, tuple(shards), pools, missing, warnings, pairings, tuple(_delivered(manifest, shards)))


def _origins_first(manifest: Manifest) -> list[tuple[str, int, Part]]:
    """All parts, each after the one that it begins at, and else in the manifest's order."""
    return sorted(manifest.walk(), key=lambda entry: entry[2].inherited)


def _ranges(count: int, shard_size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, shard_size):
        yield start, min(start + shard_size, count)


def _real_shards(manifest: Manifest, pools: dict[str, RealPool]) -> Iterator[Shard]:
    for name, pool in pools.items():
        for start, stop in _ranges(pool.taken, manifest.shard_size):
            yield Shard("real", "", name, 0, 0, start, stop, key_of_reals(manifest, pool.images[start:stop]))


def _delivered(manifest: Manifest, shards: Sequence[Shard]) -> Iterator[Shard]:
    """The shards of every delivery, each of one clean shard."""
    for name in manifest.deliveries:
        for clean in shards:
            if clean.role in ("real", "final"):
                key = key_of_delivered(clean, manifest, name)
                yield replace(clean, role="delivered", key=key, inputs=(clean.key,), generator="", checkpoint="", delivery=name)


def _pairings(subset: str, number: int, part: Part, manifest: Manifest, pools: dict[str, RealPool]) -> list[Pairing]:
    """The draws of each step of a part."""
    base = part_seed(manifest, subset, part.real, number)
    splits = image_splits(manifest, subset, part.real, number, part.count)
    return [Pairing(step, position, base, splits, pools, subset) for position, step in enumerate(part.chain)]


def _chain_shards(
    subset: str,
    number: int,
    part: Part,
    manifest: Manifest,
    catalogue: Catalogue,
    pools: dict[str, RealPool],
    absent: Collection[str | Path],
    pairings: list[Pairing],
    begin: Mapping[int, str],
    enough_people: bool = True,
) -> Iterator[Shard]:
    """The shards of a part, step by step, each range of a step standing on the same range of the step before it.

    `begin` has the keys of the shards that a part with an origin begins at, by their first image. `absent` are checkpoints and files of
    prompts. Without `enough_people`, steps that draw people have no keys. Raises NobodyLeft.
    """
    above: dict[int, str] = dict(begin)
    for position, step in list(enumerate(part.chain))[part.inherited :]:
        role: Role = "final" if position == len(part.chain) - 1 else "intermediate"
        reals = {real for real in (step.source, step.target) if real is not None}
        knowable = needed_checkpoints(step, manifest, catalogue).isdisjoint(absent) and reals <= pools.keys() and step.prompts not in absent
        knowable = knowable and (enough_people or not reals)
        common = step_ingredients(step, manifest, catalogue) if knowable else {}
        for start, stop in _ranges(part.count, manifest.shard_size):
            inputs = (above[start],) if position else ()
            shard = Shard(role, subset, part.real, number, position, start, stop, "", inputs, step.generator, step.checkpoint)
            above[start] = key_of_step(shard, manifest, part, common, pairings, pools) if knowable and all(inputs) else ""
            yield replace(shard, key=above[start])

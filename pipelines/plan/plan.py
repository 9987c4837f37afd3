"""The plan: every shard of a manifest, with its key.

A shard is a few hundred consecutive images of one step of one part of a subset (or of one real source). Its key is the sha256 of all that
decides its pixels. The store holds shards by key, so a key that is there need not be made, and a key that no plan asks for is stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from generators import registry
from generators.errors import InputError
from generators.seeding import derive_seed
from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.schema import ChainStep, Codec, Manifest, Part
from pipelines.manifest.splits import Split, split_of
from pipelines.plan.keys import face_settings
from pipelines.plan.pairs import Drawn, Pairing, person
from pipelines.plan.reals import RealImage, RealPool, open_pool, splits_without_images

KEY_RECIPE = 1  # raise it when the meaning of the ingredients changes
IMPORT_VERSION = 1  # raise it when real images come out of the same files differently
INTERMEDIATE_CODEC = Codec(format="png")
BYTES_PER_PIXEL = {"png": 1.1, "jpeg": 0.35, "webp": 1.0}

Role = Literal["real", "intermediate", "final"]


@dataclass(frozen=True)
class Shard:
    """A unit of work. `key` is empty where a checkpoint or a real source is missing, so that it cannot be known.

    `subset`, `real`, `part` and `step` say which step of which chain: `real` names the real source of the part, and `part` is its number
    among the parts of the subset with that source, from 0. For a shard of real images `subset` is empty and `real` is the source. `start`
    and `stop` count images. `inputs` are the keys of the shards it works on.
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

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def title(self) -> str:
        what = f"{self.subset} step {self.step + 1}" if self.subset else "reals"
        return f"{what} {part_name(self.real, self.part)} {self.start}-{self.stop - 1}"


@dataclass(frozen=True)
class Missing:
    """Something that the build needs and this machine does not have."""

    what: str
    path: str
    origin: str
    licence: str
    needed_by: tuple[str, ...]


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

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(shard.key for shard in self.shards)

    def part(self, shard: Shard) -> Part:
        return self.manifest.part(shard.subset, shard.real, shard.part)

    def step(self, shard: Shard) -> ChainStep:
        return self.part(shard).chain[shard.step]

    def draws(self, shard: Shard, index: int, attempt: int, chain: Sequence[dict[str, Any]] = ()) -> Drawn:
        """The real images that one planned fake is made from at the shard's step; `chain` is what was done to it before.

        Raises NobodyLeft if its split has nobody left.
        """
        avoid = {self._people[link[role]] for link in chain for role in ("source", "target") if link.get(role) in self._people}
        return self.pairings[shard.subset, shard.real, shard.part, shard.step].draw(index, attempt, avoid)

    def donor(self, shard: Shard, index: int, chain: Sequence[dict[str, Any]]) -> RealImage | None:
        """The real image whose past the final image `index` gets, once `chain` is what was done to it; None if its split has none."""
        target = chain[0].get("target")
        if target is not None:
            return self._reals.get(target)
        return _drawn_donor(self.manifest, shard.subset, shard.real, shard.part, index, self.pools)

    @cached_property
    def _reals(self) -> dict[str, RealImage]:
        return {image.id: image for pool in self.pools.values() for image in pool.images}

    @cached_property
    def _people(self) -> dict[str, str]:
        return {image.id: person(image) for pool in self.pools.values() for image in pool.images}

    def estimated_bytes(self) -> int:
        """What the images will take, from the usual bytes per pixel of the codec."""
        size, finals = self.manifest.size, BYTES_PER_PIXEL[self.manifest.codec.format]
        return int(
            sum(shard.count * size**2 * (BYTES_PER_PIXEL["png"] if shard.role == "intermediate" else finals) for shard in self.shards)
        )

    def require_complete(self) -> None:
        """Raises InputError, naming the first missing thing and how many more there are."""
        if self.missing:
            first, more = self.missing[0], len(self.missing) - 1
            others = f" (and {more} more: see `ntf plan`)" if more else ""
            raise InputError(f"{first.what} is missing: {first.path}{others}", f"Get it: {first.origin}")


def make_plan(manifest: Manifest, catalogue: Catalogue | None = None) -> Plan:
    """The plan of a manifest. Nothing is made and nothing is written; files are only read for their sha256."""
    catalogue = (catalogue or Catalogue.shipped()).joined(manifest.checkpoints)
    missing = {**_missing_checkpoints(manifest, catalogue)}
    pools, missing_reals = _open_pools(manifest)
    missing |= missing_reals
    absent = {name for name in missing if name in catalogue.entries}
    shards = [*_real_shards(manifest, pools)]
    pairings: dict[tuple[str, str, int, int], Pairing] = {}
    for name, number, part in manifest.walk():
        own = _pairings(name, number, part, manifest, pools)
        pairings |= {(name, part.real, number, step): pairing for step, pairing in enumerate(own)}
        shards += _chain_shards(name, number, part, manifest, catalogue, pools, absent, own)
    warnings = tuple(
        f"real source {pool.name} has no image in the {split} split" for pool in pools.values() for split in splits_without_images(pool)
    )
    return Plan(manifest, catalogue, tuple(shards), pools, tuple(missing.values()), warnings, pairings)


def part_name(real: str, part: int) -> str:
    """The name of a part within its subset, in ids and seeds: its real source, and from the second part with that source on a number.

    No real source has a `+` in its name, so no two parts of a subset have one name.
    """
    return f"{real}+{part + 1}" if part else real


def part_seed(manifest: Manifest, subset: str, real: str, part: int) -> int:
    """The seed that all images of a part come from."""
    return derive_seed(manifest.seed, subset, part_name(real, part))


def image_seed(base: int, step: int, index: int, attempt: int) -> int:
    """The seed of one image of one step; `attempt` counts its replacements."""
    return derive_seed(base, step, index, attempt)


def image_id(subset: str, real: str, part: int, index: int) -> str:
    """The name of a planned image, the same for all steps and attempts."""
    return f"{subset}/{part_name(real, part)}/{index:06d}"


def image_split(manifest: Manifest, subset: str, real: str, part: int, index: int) -> Split:
    """The split of a planned fake, and so of everyone it is made from."""
    return split_of(image_id(subset, real, part, index), manifest.splits)


def key_of(ingredients: dict[str, Any]) -> str:
    """The sha256 of the ingredients as canonical JSON, hex."""
    text = json.dumps({"recipe": KEY_RECIPE, **ingredients}, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _ranges(count: int, shard_size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, shard_size):
        yield start, min(start + shard_size, count)


def _real_shards(manifest: Manifest, pools: dict[str, RealPool]) -> Iterator[Shard]:
    for name, pool in pools.items():
        for start, stop in _ranges(len(pool.images), manifest.shard_size):
            ingredients = {
                "import": IMPORT_VERSION,
                "images": [[image.id, image.sha256, image.split] for image in pool.images[start:stop]],
                "size": manifest.size,
                "codec": manifest.codec.model_dump(mode="json"),
                **_compression(manifest),
            }
            yield Shard("real", "", name, 0, 0, start, stop, key_of(ingredients))


def _pairings(name: str, number: int, part: Part, manifest: Manifest, pools: dict[str, RealPool]) -> list[Pairing]:
    """The draws of each step of a part."""
    base = part_seed(manifest, name, part.real, number)
    splits = [image_split(manifest, name, part.real, number, index) for index in range(part.count)]
    return [Pairing(step, position, base, splits, pools) for position, step in enumerate(part.chain)]


def _chain_shards(
    name: str,
    number: int,
    part: Part,
    manifest: Manifest,
    catalogue: Catalogue,
    pools: dict[str, RealPool],
    absent: set[str],
    pairings: list[Pairing],
) -> Iterator[Shard]:
    """The shards of a part, step by step, each range of a step standing on the same range of the step before it."""
    above: dict[int, str] = {}
    for position, step in enumerate(part.chain):
        last = position == len(part.chain) - 1
        lacking = _needed(step, manifest, catalogue) & absent
        identity = None if lacking else catalogue.identity(step.checkpoint)
        faces = face_settings(manifest.faces, catalogue) if step.kind == "swap" and not lacking else None
        for start, stop in _ranges(part.count, manifest.shard_size):
            inputs = (above[start],) if position else ()
            role: Role = "final" if last else "intermediate"
            shard = Shard(role, name, part.real, number, position, start, stop, "", inputs, step.generator, step.checkpoint)
            knowable = identity is not None and all(inputs) and all(r in pools for r in (step.source, step.target) if r is not None)
            past = _past(manifest, shard, part, pools) if last and part.real in pools else {}
            key = key_of(_ingredients(shard, step, identity, faces, manifest, pairings, last) | past) if knowable else ""
            above[start] = key
            yield replace(shard, key=key)


def _ingredients(
    shard: Shard, step: ChainStep, identity: Any, faces: Any, manifest: Manifest, pairings: list[Pairing], last: bool
) -> dict[str, Any]:
    """All that decides the pixels of a shard. The draws are those of the first attempt: a replacement is drawn from the same pool, and the
    chain of the row that it makes names what was drawn."""
    drawn = [_first_draws(pairings[: shard.step + 1], index) for index in range(shard.start, shard.stop)] if _draws(step) else []
    return {
        "generator": step.generator,
        "output_version": registry.get(step.generator).output_version,
        "checkpoint": identity,
        "kind": step.kind,
        "parameters": step.settings(),
        "seeds": [part_seed(manifest, shard.subset, shard.real, shard.part), shard.step, shard.start, shard.stop],
        "prompts": prompts_of(step) if step.prompts is not None else None,
        "inputs": list(shard.inputs),
        # No pixels, but what every row says: rows of one version must not be divided by different rules.
        "splits": [image_split(manifest, shard.subset, shard.real, shard.part, index) for index in range(shard.start, shard.stop)],
        "draws": [{role: image.sha256 for role, image in each.items()} for each in drawn],
        # An intermediate image stays as its generator made it; only the last step is brought to the dataset's size and codec.
        "size": manifest.size if last else None,
        "codec": (manifest.codec if last else INTERMEDIATE_CODEC).model_dump(mode="json"),
        **({"faces": faces} if faces else {}),
    }


def _compression(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says of a compression that reals and fakes alike go through, for the keys of both: ids and the seed draw it."""
    asked = manifest.parity.recompress
    return {"recompress": [asked.model_dump(mode="json"), manifest.seed]} if asked else {}


def _past(manifest: Manifest, shard: Shard, part: Part, pools: dict[str, RealPool]) -> dict[str, Any]:
    """What decides the past that a shard's final images are given. Where a chain begins with a real image, that is its donor."""
    if not manifest.parity.inherits:
        return _compression(manifest)
    planned = range(0) if part.chain[0].target else range(shard.start, shard.stop)
    donors = [_drawn_donor(manifest, shard.subset, shard.real, shard.part, index, pools) for index in planned]
    given = manifest.parity.model_dump(mode="json", include={"jpeg", "sizes"})
    return {"parity": given, "donors": [donor and donor.sha256 for donor in donors], **_compression(manifest)}


def _drawn_donor(manifest: Manifest, subset: str, real: str, part: int, index: int, pools: dict[str, RealPool]) -> RealImage | None:
    seed = derive_seed(part_seed(manifest, subset, real, part), index, "parity")
    return next(pools[real].around(seed, image_split(manifest, subset, real, part, index)), None)


def _draws(step: ChainStep) -> bool:
    return step.source is not None or step.target is not None


def _first_draws(pairings: list[Pairing], index: int) -> Drawn:
    """What the last of these steps draws for an image if no step before it is tried twice."""
    people: set[str] = set()
    drawn: Drawn = {}
    for pairing in pairings:
        drawn = pairing.draw(index, 0, people)
        people |= {person(image) for image in drawn.values()}
    return drawn


def prompts_of(step: ChainStep) -> list[str]:
    """The prompts of a step: the list in the manifest, or the non-empty lines of its file."""
    if not isinstance(step.prompts, Path):
        return list(step.prompts or ())
    try:
        found = [line.strip() for line in step.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read the prompts {step.prompts}: {error.strerror}", "Check `prompts` in the manifest") from None
    if not found:
        raise InputError(f"{step.prompts} has no prompts", "Write one on each line")
    return found


def _needed(step: ChainStep, manifest: Manifest, catalogue: Catalogue) -> set[str]:
    """The checkpoints of a step, with their components and those of the face tools."""
    names = {step.checkpoint, *(name for _, name in manifest.faces.networks if step.kind == "swap")}
    return names | {part for name in names for part in catalogue.entries[name].components.values()}


def _missing_checkpoints(manifest: Manifest, catalogue: Catalogue) -> dict[str, Missing]:
    needed: dict[str, list[str]] = {}
    for name, _, part in manifest.walk():
        for step in part.chain:
            for checkpoint in [step.checkpoint, *(network for _, network in manifest.faces.networks if step.kind == "swap")]:
                for absent in catalogue.missing(checkpoint):
                    needed.setdefault(absent, []).append(name)
    return {
        name: Missing(
            f"checkpoint {name}",
            str(catalogue.path(name)),
            catalogue.entries[name].origin,
            catalogue.entries[name].licence,
            tuple(dict.fromkeys(users)),
        )
        for name, users in needed.items()
    }


def _open_pools(manifest: Manifest) -> tuple[dict[str, RealPool], dict[str, Missing]]:
    """The pools of all real sources that a subset names; a folder that is not there counts as missing."""
    counts: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    for name, _, part in manifest.walk():
        for real in {part.real, *(role for step in part.chain for role in (step.source, step.target) if role is not None)}:
            counts[real] = max(counts.get(real, 0), part.count)
            users.setdefault(real, []).append(name)
    pools, missing = {}, {}
    for real, count in counts.items():
        source = manifest.reals[real]
        if source.path is not None and not source.path.is_dir():
            names = tuple(dict.fromkeys(users[real]))
            missing[f"real source {real}"] = Missing(f"real source {real}", str(source.path), "your own copy", source.licence, names)
        else:
            pools[real] = open_pool(real, source, manifest.splits, count)
    return pools, missing

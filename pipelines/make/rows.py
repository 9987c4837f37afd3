"""What the store keeps of an image: its row, with the chain that says how the image was made, and its encoded pixels."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from generators import registry
from pipelines.images import encode, perceptual_hash
from pipelines.make.measures import sharpness
from pipelines.make.past import History
from pipelines.make.regions.masks import encode_mask
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.schema import Codec
from pipelines.plan.keys import prompts_of
from pipelines.plan.pairs import Drawn
from pipelines.plan.plan import Plan
from pipelines.plan.shards import INTERMEDIATE_CODEC, Shard, image_group, image_id, image_seed, image_split, part_seed
from pipelines.store import Row

RETOUCHED = "retouched"  # the mode of real images that a chain edited
ENCODERS = 4  # threads that encode a shard


@dataclass(frozen=True)
class Picture:
    """A row with its pixels (`uint8` RGB `[H, W, 3]`) and the mask of where they were reworked (bool `[H, W]`), if that is known; not yet
    encoded. A rejection has no pixels."""

    row: Row
    pixels: np.ndarray | None
    mask: np.ndarray | None = None

    def encoded(self, codec: Codec) -> Row:
        """The row with encoded bytes and all that follows from them. The row of a rejection stays as it is."""
        if self.pixels is None:
            return self.row
        data = encode(self.pixels, codec)
        height, width = self.pixels.shape[:2]
        mask = None if self.mask is None else encode_mask(self.mask)
        return replace(
            self.row,
            image=data,
            format=codec.format,
            width=width,
            height=height,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            phash=perceptual_hash(self.pixels),
            measures={**self.row.measures, "sharpness": sharpness(self.pixels)},
            mask=mask,
            mask_sha256=None if mask is None else hashlib.sha256(mask).hexdigest(),
        )


class Encodable(Protocol):
    """What becomes a row once it is encoded: a `Picture`, or an image that is to be delivered."""

    @property
    def row(self) -> Row: ...

    def encoded(self, codec: Codec) -> Row: ...


@dataclass(frozen=True)
class ShardPictures:
    """A shard that is made and not yet written: its pictures and rejections in order, how many planned images no attempt could make
    (`short`), and the seconds that making took."""

    pictures: tuple[Encodable, ...]
    codec: Codec
    short: int
    seconds: float

    def rows(self) -> list[Row]:
        """Encodes everything, in a few threads: one core encodes about 200 images of 256 px a second, and a GPU can make more."""

        def encoded(picture: Encodable) -> Row:
            return picture.encoded(INTERMEDIATE_CODEC if picture.row.role == "intermediate" else self.codec)

        with ThreadPoolExecutor(min(ENCODERS, os.cpu_count() or 1)) as pool:
            return list(pool.map(encoded, self.pictures))


@dataclass(frozen=True)
class Job:
    """One planned image at one attempt.

    `above` is the picture that the step before made of it, `drawn` the real images that it is made from, `prompt` its text, and `past` the
    history that the final image is to get; each is None or empty where the step has no such thing.
    """

    index: int
    attempt: int
    seed: int
    above: Picture | None = None
    drawn: Drawn = field(default_factory=dict)
    prompt: str | None = None
    past: History | None = None


def seed_of(plan: Plan, shard: Shard, index: int, attempt: int) -> int:
    """The seed of image `index` at the shard's step and an attempt."""
    return image_seed(part_seed(plan.manifest, shard.subset, shard.real, shard.part), shard.step, index, attempt)


def prompt_of(step: ChainStep, seed: int) -> str | None:
    """The prompt that an image of this seed is made from; None at a step without prompts."""
    if step.prompts is None:
        return None
    prompts = prompts_of(step)
    return prompts[seed % len(prompts)]


def chain_link(plan: Plan, shard: Shard, attempt: int, seed: int, drawn: Drawn, prompt: str | None) -> dict[str, Any]:
    """What a row's chain says of the shard's step. `pipelines.examine.lineage` compares stored links with those of a new plan.

    Raises InputError if the step's checkpoint is not on this machine.
    """
    step = plan.step(shard)
    return {
        "kind": step.kind,
        "generator": step.generator,
        "output_version": registry.get(step.generator).output_version,
        "checkpoint": step.checkpoint,
        "identity": plan.catalogue.identity(step.checkpoint),
        "parameters": step.settings(),
        "seed": seed,
        "attempt": attempt,
        **({"subset": shard.subset} if plan.part(shard).origin and shard.step >= plan.part(shard).inherited else {}),
        **{role: image.id for role, image in drawn.items()},
        **({"prompt": prompt} if prompt is not None else {}),
        **({"mask": step.mask.model_dump(mode="json", exclude_none=True), "keep": step.keep} if step.mask is not None else {}),
        **({key: value for key, value in step.alignment().items() if value is not None} if step.is_aligned else {}),
    }


def real_row(plan: Plan, shard: Shard, index: int, measures: dict[str, Any]) -> Row:
    """The row of image `index` of the shard's real source."""
    pool = plan.pools[shard.real]
    image = pool.images[index]
    return Row(
        id=image.id,
        role="real",
        label=0,
        subset=shard.real,
        real=shard.real,
        family="real",
        mode="real",
        index=index,
        split=image.split,
        group=image.group,
        shard_key=shard.key,
        licence=pool.licence,
        source_id=image.id,
        identity=image.identity,
        measures=measures,
    )


def fake_row(plan: Plan, shard: Shard, job: Job, measures: dict[str, Any]) -> Row:
    """The row of a fake, or of a real image that was retouched (`label: real`). Its chain is the chain of what it was made from, and one
    link more."""
    retouched = plan.part(shard).label == "real"
    subset, drawn = plan.manifest.subsets[shard.subset], job.drawn
    planned = image_id(shard.subset, shard.real, shard.part, job.index)
    above = job.above.row if job.above else None
    source, target = drawn.get("source"), drawn.get("target")
    link = chain_link(plan, shard, job.attempt, job.seed, drawn, job.prompt)
    return Row(
        id=f"{planned}/{shard.step}" + (f".{job.attempt}" if job.attempt else ""),
        role=shard.role,
        label=0 if retouched else 1,
        subset=shard.subset,
        real=shard.real,
        part=shard.part,
        family="real" if retouched else subset.family,
        mode=RETOUCHED if retouched else subset.mode,
        index=job.index,
        step=shard.step,
        attempt=job.attempt,
        split=image_split(plan.manifest, shard.subset, shard.real, shard.part, job.index),
        group=image_group(plan.manifest, shard.subset, shard.real, shard.part, job.index),
        seed=job.seed,
        chain=[*(above.chain if above else []), link],
        target_id=target.id if target else above.id if above else None,
        source_id=source.id if source else None,
        identity=source.identity if source else above.identity if above else None,
        shard_key=shard.key,
        licence=plan.catalogue.entries[plan.step(shard).checkpoint].licence,
        measures=measures,
    )


def rejection(plan: Plan, shard: Shard, job: Job, reason: str, measures: dict[str, Any] | None = None) -> Picture:
    """A job that came to nothing, with the reason for the ledger. It keeps no prompt."""
    row = fake_row(plan, shard, replace(job, prompt=None), measures or {})
    return Picture(replace(row, role="rejected", reason=reason), None)

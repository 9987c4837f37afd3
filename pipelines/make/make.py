"""Making one shard: real images brought in, or one step of a chain run over a few hundred images."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from generators import registry
from generators.base import EditRequest, PromptRequest, Request, SampleRequest
from generators.seeding import derive_seed
from pipelines.images import decode, encode, fit, perceptual_hash
from pipelines.make import rejections
from pipelines.make.measures import sharpness
from pipelines.make.models import Models
from pipelines.make.past import History, read_history, recompressed, with_history
from pipelines.make.swaps import FaceSwaps, Open, Swapped
from pipelines.manifest.schema import Codec
from pipelines.plan.keys import prompts_of
from pipelines.plan.pairs import Drawn, NobodyLeft
from pipelines.plan.plan import Plan
from pipelines.plan.shards import INTERMEDIATE_CODEC, Role, Shard, image_id, image_seed, image_split, part_seed
from pipelines.store import Row, Store

ENCODERS = 4  # threads that encode a shard


@dataclass
class Picture:
    """A row with its pixels, not yet encoded."""

    row: Row
    pixels: np.ndarray | None

    def encoded(self, codec: Codec) -> Row:
        """The row with encoded bytes and all that follows from them. A rejection stays without."""
        if self.pixels is None:
            return self.row
        data = encode(self.pixels, codec)
        height, width = self.pixels.shape[:2]
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
        )


@dataclass(frozen=True)
class Outcome:
    """A shard in numbers: images, rejected tries, seconds of making (encoding and writing go on beside the next shard)."""

    images: int
    rejected: int
    seconds: float


@dataclass
class Made:
    """What came of a shard: its pictures and rejections in order, and how many planned images no attempt could make."""

    pictures: list[Picture]
    codec: Codec
    short: int
    seconds: float

    @property
    def outcome(self) -> Outcome:
        rejected = sum(picture.row.role == "rejected" for picture in self.pictures)
        return Outcome(len(self.pictures) - rejected, rejected, self.seconds)

    def rows(self) -> list[Row]:
        """Encodes everything, in a few threads: one core does about 200 images of 256 px a second, which a GPU can outrun.

        It runs beside the next shard's making.
        """

        def encoded(picture: Picture) -> Row:
            return picture.encoded(INTERMEDIATE_CODEC if picture.row.role == "intermediate" else self.codec)

        with ThreadPoolExecutor(min(ENCODERS, os.cpu_count() or 1)) as pool:
            return list(pool.map(encoded, self.pictures))


@dataclass
class _Tried:
    """One planned image after one attempt."""

    picture: Picture
    above: list[Picture] = field(default_factory=list)  # targets that were made anew for it

    @property
    def reason(self) -> str | None:
        return self.picture.row.reason


class Maker:
    """Makes the shards of a plan, reading their inputs from the store."""

    def __init__(self, plan: Plan, store: Store, models: Models):
        self._plan = plan
        self._store = store
        self._models = models

    def make(self, shard: Shard) -> Made:
        """All images of a shard. The same shard comes out the same, to the bit, on one machine."""
        start = time.perf_counter()
        codec = INTERMEDIATE_CODEC if shard.role == "intermediate" else self._plan.manifest.codec
        if shard.role == "real":
            return Made(self._reals(shard), codec, 0, time.perf_counter() - start)
        pictures, short = self._steps(shard)
        return Made(pictures, codec, short, time.perf_counter() - start)

    def remake(self, row: Row) -> Picture:
        """One stored fake made again, alone, every step at the attempt that its chain records. A step that is rejected now ends it."""
        above: dict[int, Picture] = {}
        last = len(row.chain) - 1
        for step, link in enumerate(row.chain):
            role: Role = "final" if step == last and row.role == "final" else "intermediate"
            shard = Shard(role, row.subset, row.real, row.part, step, row.index, row.index + 1, row.shard_key)
            above = self._run(shard, [row.index], link["attempt"], above)
            if above[row.index].pixels is None:
                break
        return above[row.index]

    def _reals(self, shard: Shard) -> list[Picture]:
        pool = self._plan.pools[shard.real]
        pictures = []
        for index in range(shard.start, shard.stop):
            real = pool.images[index]
            row = Row(
                id=real.id,
                role="real",
                label=0,
                subset=shard.real,
                real=shard.real,
                family="real",
                mode="real",
                index=index,
                split=real.split,
                group=real.group,
                shard_key=shard.key,
                licence=pool.licence,
                source_id=real.id,
                identity=real.identity,
            )
            if real.file is not None and (past := read_history(real.file)).tables:
                row.measures["history"] = past.as_data()
            pixels = fit(real.load(), self._plan.manifest.size)
            pictures.append(Picture(row, self._compressed(pixels, real.id)))
        return pictures

    def _steps(self, shard: Shard) -> tuple[list[Picture], int]:
        """Tries every planned image, and what was rejected again with new seeds, up to the manifest's bound."""
        inputs = self._inputs(shard)
        pictures: list[Picture] = []
        waiting: dict[int, str | None] = dict.fromkeys(range(shard.start, shard.stop))
        for attempt in range(self._plan.manifest.attempts):
            if not waiting:
                break
            remake = {index for index, reason in waiting.items() if reason in rejections.TARGET_REASONS or reason == rejections.NO_INPUT}
            outcomes = self._attempt(shard, list(waiting), attempt, inputs, remake)
            waiting = {}
            for outcome in outcomes:
                pictures += [*outcome.above, outcome.picture]
                if outcome.reason:
                    waiting[outcome.picture.row.index] = outcome.reason
        pictures.sort(key=lambda picture: (picture.row.index, picture.row.attempt, picture.row.step))
        return pictures, len(waiting)

    def _inputs(self, shard: Shard) -> dict[int, Picture]:
        """The images of the step before, by number. A number that it could not make is not there."""
        rows = self._store.shard(shard.inputs[0]) if shard.inputs else []
        return {row.index: Picture(row, decode(row.image, row.id)) for row in rows if row.image is not None and row.step == shard.step - 1}

    def _attempt(self, shard: Shard, indices: Sequence[int], attempt: int, inputs: dict[int, Picture], remake: set[int]) -> list[_Tried]:
        """One attempt at each of `indices`. Those in `remake` get a new target, made by the steps above with this attempt's seeds."""
        above: dict[int, list[Picture]] = {}
        if shard.step and remake:
            upper = replace(shard, step=shard.step - 1, role="intermediate", **_method(self._plan, shard, shard.step - 1))
            for outcome in self._attempt(upper, sorted(remake), attempt, {}, remake):
                index = outcome.picture.row.index
                above[index] = [*outcome.above, outcome.picture]
                if outcome.reason is None:
                    inputs[index] = outcome.picture
        made = self._run(shard, [index for index in indices if not shard.step or index in inputs], attempt, inputs)
        outcomes = []
        for index in indices:
            picture = made[index] if index in made else self._rejection(shard, index, attempt, rejections.NO_INPUT)
            outcomes.append(_Tried(picture, above.get(index, [])))
        return outcomes

    def _run(self, shard: Shard, indices: list[int], attempt: int, inputs: dict[int, Picture]) -> dict[int, Picture]:
        """Runs the step's generator over `indices` in one request, and judges what it made."""
        pictures: dict[int, Picture] = {}
        drawn: dict[int, Drawn] = {}
        for index in indices:
            above = inputs.get(index)
            try:
                drawn[index] = self._plan.draws(shard, index, attempt, above.row.chain if above else ())
            except NobodyLeft:
                pictures[index] = self._rejection(shard, index, attempt, rejections.NO_PERSON, above)
        if not drawn:
            return pictures
        seeds = [self._seed(shard, index, attempt) for index in drawn]
        step = self._plan.step(shard)
        prompts: list[str | None] = [_pick(prompts_of(step), seed) if step.prompts is not None else None for seed in seeds]
        pasts = self._pasts(shard, drawn, inputs)
        if step.kind == "swap":
            made = self._swaps(shard, seeds, drawn, inputs, pasts)
        else:
            made = self._images(shard, seeds, prompts, drawn, inputs, pasts)
        for index, prompt, one in zip(drawn, prompts, made, strict=True):
            above = inputs.get(index)
            if one.picture is None:
                pictures[index] = self._rejection(shard, index, attempt, one.reason or rejections.BLANK, above, drawn[index], one.measures)
                continue
            row = self._row(shard, index, attempt, above, drawn[index], prompt)
            row.measures = one.measures | ({"history": pasts[index].as_data()} if index in pasts else {})
            pictures[index] = Picture(row, self._compressed(one.picture, row.group) if shard.role == "final" else one.picture)
        return pictures

    def _pasts(self, shard: Shard, drawn: dict[int, Drawn], inputs: dict[int, Picture]) -> dict[int, History]:
        """The past that each final image is to get, by its number; of an image whose donor is no file, nothing is known."""
        found: dict[int, History] = {}
        if shard.role != "final" or not self._plan.manifest.parity.inherits:
            return found
        for index, each in drawn.items():
            above = inputs.get(index)
            chain = above.row.chain if above else [{role: image.id for role, image in each.items()}]
            donor = self._plan.donor(shard, index, chain)
            if donor is not None and donor.file is not None:
                found[index] = read_history(donor.file)
        return found

    def _with_past(self, pixels: np.ndarray, past: History | None) -> np.ndarray:
        return pixels if past is None else with_history(pixels, past, self._plan.manifest.parity)

    def _compressed(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """An image of the dataset's size, real or fake, after the compression that the manifest wants all to go through, if any."""
        manifest = self._plan.manifest
        asked = manifest.parity.recompress
        return recompressed(pixels, asked, derive_seed(manifest.seed, name)) if asked else pixels

    def _swaps(
        self, shard: Shard, seeds: list[int], drawn: dict[int, Drawn], inputs: dict[int, Picture], pasts: dict[int, History]
    ) -> Iterator[Swapped]:
        step = self._plan.step(shard)
        sources = [each["source"].load for each in drawn.values()]
        targets = [_target(each, inputs.get(index)) for index, each in drawn.items()]
        generator = self._models.get(step.generator, step.checkpoint)
        indices = list(drawn)

        def prepare(row: int, picture: np.ndarray) -> np.ndarray:
            return self._with_past(picture, pasts.get(indices[row]))

        return self._faces.swap(generator, seeds, sources, targets, step.parameters, self._final_size(shard), prepare)

    def _images(
        self,
        shard: Shard,
        seeds: list[int],
        prompts: list[str | None],
        drawn: dict[int, Drawn],
        inputs: dict[int, Picture],
        pasts: dict[int, History],
    ) -> Iterator[Swapped]:
        """What a step that swaps no faces makes: the images of samples, prompts and edits, each with its reason if it must not be used."""
        step = self._plan.step(shard)
        generator = self._models.get(step.generator, step.checkpoint)
        request: Request = SampleRequest(seeds)
        if step.kind == "edit":
            targets = [fit(_target(each, inputs.get(index))(), generator.resolution) for index, each in drawn.items()]
            request = EditRequest(seeds, np.stack(targets))
        elif step.kind == "prompt":
            request = PromptRequest(seeds, [prompt or "" for prompt in prompts])
        result = generator.run(request, **step.parameters)
        size = self._final_size(shard)
        for place, (index, pixels) in enumerate(zip(drawn, result.images, strict=True)):
            reason = result.rejected.get(place) or rejections.reason_against(pixels)
            measures = {name: values[place] for name, values in result.columns.items()}
            if reason:
                yield Swapped(None, reason)
            else:
                yield Swapped(fit(self._with_past(pixels, pasts.get(index)), size) if size else pixels, None, measures)

    @cached_property
    def _faces(self) -> FaceSwaps:
        return FaceSwaps(self._plan.manifest.faces, self._plan.catalogue, self._models.device)

    def _final_size(self, shard: Shard) -> int | None:
        """The side that the shard's images are brought to. Intermediate ones stay as they were made."""
        return self._plan.manifest.size if shard.role == "final" else None

    def _seed(self, shard: Shard, index: int, attempt: int) -> int:
        return image_seed(part_seed(self._plan.manifest, shard.subset, shard.real, shard.part), shard.step, index, attempt)

    def _rejection(
        self,
        shard: Shard,
        index: int,
        attempt: int,
        reason: str,
        above: Picture | None = None,
        drawn: Drawn | None = None,
        measures: dict[str, Any] | None = None,
    ) -> Picture:
        row = self._row(shard, index, attempt, above, drawn or {}, None)
        return Picture(replace(row, role="rejected", reason=reason, measures=measures or {}), None)

    def _row(self, shard: Shard, index: int, attempt: int, above: Picture | None, drawn: Drawn, prompt: str | None) -> Row:
        """The row of a fake, its chain being the chain of what it was made from and this step."""
        manifest, step = self._plan.manifest, self._plan.step(shard)
        subset = manifest.subsets[shard.subset]
        seed = self._seed(shard, index, attempt)
        link: dict[str, Any] = {
            "kind": step.kind,
            "generator": step.generator,
            "output_version": registry.get(step.generator).output_version,
            "checkpoint": step.checkpoint,
            "identity": self._plan.catalogue.identity(step.checkpoint),
            "parameters": step.settings(),
            "seed": seed,
            "attempt": attempt,
            **{role: image.id for role, image in drawn.items()},
            **({"prompt": prompt} if prompt is not None else {}),
        }
        planned = image_id(shard.subset, shard.real, shard.part, index)
        source = drawn.get("source")
        target_id = drawn["target"].id if "target" in drawn else above.row.id if above else None
        return Row(
            id=f"{planned}/{shard.step}" + (f".{attempt}" if attempt else ""),
            role=shard.role,
            label=1,
            subset=shard.subset,
            real=shard.real,
            part=shard.part,
            family=subset.family,
            mode=subset.mode,
            index=index,
            step=shard.step,
            attempt=attempt,
            split=image_split(manifest, shard.subset, shard.real, shard.part, index),
            group=planned,
            seed=seed,
            chain=[*(above.row.chain if above else []), link],
            target_id=target_id,
            source_id=source.id if source else None,
            identity=source.identity if source else above.row.identity if above else None,
            shard_key=shard.key,
            licence=self._plan.catalogue.entries[step.checkpoint].licence,
        )


def _method(plan: Plan, shard: Shard, step: int) -> dict[str, Any]:
    chosen = plan.part(shard).chain[step]
    return {"generator": chosen.generator, "checkpoint": chosen.checkpoint}


def _target(drawn: Drawn, above: Picture | None) -> Open:
    """What a swap or an edit works on: the real image that was drawn for it, or the image of the step before."""
    if "target" in drawn:
        return drawn["target"].load
    assert above is not None and above.pixels is not None
    return partial(np.asarray, above.pixels)


def _pick(prompts: list[str], seed: int) -> str:
    return prompts[seed % len(prompts)]

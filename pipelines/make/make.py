"""Making one shard: real images brought in, or one step of a chain run over a few hundred images, with what was rejected tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from generators.errors import InputError
from pipelines.delivery.rows import Delivering, delivering
from pipelines.images import decode_stored, encode
from pipelines.make import rejections
from pipelines.make.framing import Unfit
from pipelines.make.jobs import plan_jobs
from pipelines.make.models import Models
from pipelines.make.past import read_history
from pipelines.make.rows import Encodable, Picture, ShardPictures, real_row
from pipelines.make.step import BatchSize, Steps
from pipelines.plan.plan import Plan
from pipelines.plan.rules import against_picture
from pipelines.plan.shards import INTERMEDIATE_CODEC, Role, Shard
from pipelines.store import Row, Store


@dataclass(frozen=True)
class _Try:
    """One planned image after one attempt. `above` are the pictures that the steps before made anew for it, the first step first."""

    picture: Picture
    above: tuple[Picture, ...] = ()

    @property
    def index(self) -> int:
        return self.picture.row.index

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return (*self.above, self.picture)

    @property
    def new_input(self) -> Picture | None:
        """The new picture of the step before, if this attempt made one."""
        return self.above[-1] if self.above and self.above[-1].pixels is not None else None


class Maker:
    """Makes the shards of a plan, reading their inputs from the store."""

    def __init__(self, plan: Plan, store: Store, models: Models):
        self._plan = plan
        self._store = store
        self._models = models
        self._steps = Steps(plan, models)

    def make(self, shard: Shard) -> ShardPictures:
        """All images of a shard. The same shard comes out the same, to the bit, on one machine."""
        start = time.perf_counter()
        self._models.keep_only(self._generators(shard))
        if shard.role == "delivered":
            return ShardPictures(tuple(self._delivered(shard)), self._plan.manifest.codec, 0, time.perf_counter() - start)
        codec = INTERMEDIATE_CODEC if shard.role == "intermediate" else self._plan.manifest.codec
        pictures, short = (self._reals(shard), 0) if shard.role == "real" else self._fakes(shard)
        return ShardPictures(tuple(pictures), codec, short, time.perf_counter() - start)

    def _generators(self, shard: Shard) -> set[tuple[str, str]]:
        """The generators of a shard's chain. Those of the steps before may be asked again, and those after it come next where a chain is
        made by itself."""
        if shard.role not in ("intermediate", "final"):
            return set()
        return {(step.generator, step.checkpoint) for step in self._plan.part(shard).chain}

    def remake(self, row: Row, alone: bool = True) -> Picture:
        """One stored fake made again, every step at the attempt that its chain records. A step that is rejected now ends it.

        A step whose row records how many images were made at once fills its batch up to so many. Another makes the image `alone`, or
        fills its batch up to the size that it had in its shard, if no image of it was rejected.
        """
        inputs: dict[int, Picture] = {}
        last, manifest = len(row.chain) - 1, self._plan.manifest
        batches = self._batches_of(row)
        for step, link in enumerate(row.chain):
            subset = manifest.maker(row.subset, row.real, row.part, step)
            ends = step == len(manifest.part(subset, row.real, row.part).chain) - 1  # of the subset that this one begins at, too
            role: Role = "final" if (ends and step < last) or (step == last and row.role == "final") else "intermediate"
            shard = Shard(role, subset, row.real, row.part, step, row.index, row.index + 1, row.shard_key)
            unrecorded: BatchSize = 0 if alone else self._batch_in_shard(subset, row)
            with self._steps.in_batches_of(batches[step] or unrecorded):
                inputs = self._run(shard, [row.index], link["attempt"], inputs)
            picture = inputs[row.index]
            if picture.pixels is None:
                break
            if role == "final" and step < last:  # what follows begins at the stored image
                inputs = {row.index: replace(picture, pixels=decode_stored(encode(picture.pixels, manifest.codec), picture.row.id))}
        return inputs[row.index]

    def _batch_in_shard(self, subset: str, row: Row) -> Callable[[int], int]:
        """How large the batch with the image of `row` was when `subset` made its shard, by the usual size of the generator."""
        manifest = self._plan.manifest
        place = row.index % manifest.shard_size
        count = min(manifest.shard_size, manifest.part(subset, row.real, row.part).count - (row.index - place))
        return lambda usual: min(usual, count - place // usual * usual)

    def _batches_of(self, row: Row) -> list[int]:
        """How many images were made at once with each link of a row's chain, as the rows of its steps record it; 0 where they do not."""
        sizes = [0] * len(row.chain)
        above: Row | None = row
        for step in reversed(range(len(row.chain))):
            if above is None:
                break
            sizes[step] = above.measures.get("made_with", {}).get("batch", 0)
            try:
                above = self._store.row(above.target_id) if step and above.target_id else None
            except InputError:
                above = None
        return sizes

    def redeliver(self, row: Row, clean: Row) -> Row:
        """A stored delivered image delivered again, from the stored image that it was made from."""
        return Delivering(clean, self._plan.manifest, row.delivery or "", row.shard_key).encoded(self._plan.manifest.codec)

    def _delivered(self, shard: Shard) -> list[Encodable]:
        """What is to be delivered of a clean shard; where that has no image, a rejection, so that the shard is not made again."""
        clean = self._store.shard(shard.inputs[0])
        images: list[Encodable] = list(delivering(clean, self._plan.manifest, shard.delivery, shard.key))
        if images or not clean:
            return images
        nothing = Delivering(clean[0], self._plan.manifest, shard.delivery, shard.key).row
        return [Picture(replace(nothing, role="rejected", reason=rejections.NO_INPUT), None)]

    def _reals(self, shard: Shard) -> list[Picture]:
        """The real images, and a rejection for each that does not have the dataset's size or that a rule refuses: no attempt could make
        another of it."""
        pictures = []
        for index in range(shard.start, shard.stop):
            image = self._plan.pools[shard.real].images[index]
            past = None if image.file is None else read_history(image.file)
            row = real_row(self._plan, shard, index, {"history": past.as_data()} if past and past.tables else {})
            pixels = image.load()
            try:
                pixels = self._steps.windows.of_real(image, pixels.shape).of(pixels)
            except Unfit as unfit:
                pictures.append(Picture(replace(row, role="rejected", reason=unfit.reason), None))
            else:
                pixels = self._steps.compressed(pixels, image.id)
                refused = against_picture(self._plan.manifest.filters, pixels)
                pictures.append(Picture(replace(row, role="rejected", reason=refused), None) if refused else Picture(row, pixels))
        return pictures

    def _fakes(self, shard: Shard) -> tuple[list[Picture], int]:
        """Tries every planned image, and what was rejected again with new seeds, up to the manifest's bound. Gives the pictures, and how
        many images no attempt could make."""
        inputs = self._inputs(shard)
        pictures: list[Picture] = []
        part = self._plan.part(shard)
        first_own = part.origin is not None and shard.step == part.inherited  # its inputs are another subset's: no others are made
        needs_input = rejections.INPUT_REASONS | rejections.SIZE_REASONS
        hopeless = needs_input if first_own else rejections.SIZE_REASONS if part.chain[0].target is None else frozenset()
        given_up: set[int] = set()
        waiting: dict[int, str | None] = dict.fromkeys(range(shard.start, shard.stop))
        for attempt in range(self._plan.manifest.attempts):
            if not waiting:
                break
            new_inputs = {index for index, reason in waiting.items() if reason in needs_input}
            tries = self._attempt(shard, list(waiting), attempt, inputs, new_inputs)
            pictures += [picture for tried in tries for picture in tried.pictures]
            inputs = _with_new_inputs(inputs, tries)
            waiting = {tried.index: tried.picture.row.reason for tried in tries if tried.picture.row.reason}
            given_up |= {index for index, reason in waiting.items() if reason in hopeless}
            waiting = {index: reason for index, reason in waiting.items() if index not in given_up}
        pictures.sort(key=lambda picture: (picture.row.index, picture.row.attempt, picture.row.step))
        return pictures, len(waiting) + len(given_up)

    def _inputs(self, shard: Shard) -> dict[int, Picture]:
        """The images of the step before, by index. An index that the step could not make is not there."""
        rows = self._store.shard(shard.inputs[0]) if shard.inputs else []
        return {
            row.index: Picture(row, decode_stored(row.image, row.id))
            for row in rows
            if row.image is not None and row.step == shard.step - 1
        }

    def _attempt(
        self, shard: Shard, indices: Sequence[int], attempt: int, inputs: Mapping[int, Picture], new_inputs: set[int]
    ) -> list[_Try]:
        """One attempt at each of `indices`. Those in `new_inputs` get a new target, made by the steps before with this attempt's seeds."""
        above: dict[int, tuple[Picture, ...]] = {}
        inherited = self._plan.part(shard).inherited
        if inherited and shard.step == inherited and not inputs:  # it is tried anew for the step after it
            inputs = self._inputs(self._plan.shard_of(shard))
        if shard.step > inherited and new_inputs:
            upper = self._step_before(shard)
            again = [_Try(tried.picture, tried.pictures) for tried in self._attempt(upper, sorted(new_inputs), attempt, {}, new_inputs)]
            above = {tried.index: tried.above for tried in again}
            inputs = _with_new_inputs(inputs, again)
        pictures = self._run(shard, indices, attempt, inputs)
        return [_Try(pictures[index], above.get(index, ())) for index in indices]

    def _run(self, shard: Shard, indices: Sequence[int], attempt: int, inputs: Mapping[int, Picture]) -> dict[int, Picture]:
        """The step over `indices` once: a picture or a rejection for each of them."""
        jobs, rejected = plan_jobs(self._plan, shard, indices, attempt, inputs)
        return {picture.row.index: picture for picture in [*rejected, *self._steps.run(shard, jobs)]}

    def _step_before(self, shard: Shard) -> Shard:
        step = self._plan.part(shard).chain[shard.step - 1]
        return replace(shard, step=shard.step - 1, role="intermediate", generator=step.generator, checkpoint=step.checkpoint)


def _with_new_inputs(inputs: Mapping[int, Picture], tries: Sequence[_Try]) -> dict[int, Picture]:
    return {**inputs, **{tried.index: tried.new_input for tried in tries if tried.new_input is not None}}

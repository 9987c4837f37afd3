"""One step of a chain over a batch of jobs: the generator runs once, and what it gives is judged and brought to its stored form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from generators.base import Generator, PromptRequest, Request, SampleRequest
from generators.errors import InputError
from generators.seeding import derive_seed
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.framing import Frame, Unfit, frame_of
from pipelines.make.models import Models
from pipelines.make.output import Output, taken
from pipelines.make.past import recompressed, with_history
from pipelines.make.regions import masks
from pipelines.make.regions.aligning import aligned
from pipelines.make.regions.edits import edit
from pipelines.make.regions.inpainting import Painting, inpaint
from pipelines.make.regions.places import in_stored_pixels
from pipelines.make.regions.swaps import FaceSwaps, Pair
from pipelines.make.rows import Job, Picture, fake_row, rejection
from pipelines.make.threads import Threads
from pipelines.make.windows import CUT_AT, Input, Place, Windows
from pipelines.manifest.chains import ON_IMAGES, ChainStep
from pipelines.manifest.sizes import side_of
from pipelines.plan.plan import Plan
from pipelines.plan.rules import against_picture
from pipelines.plan.shards import Shard

BatchSize = int | Callable[[int], int]  # images at once, or those by the usual size of a generator; 0: as many as there are


class Steps:
    """Runs the steps of a plan's chains. Models and face networks stay loaded."""

    def __init__(self, plan: Plan, models: Models, threads: Threads | None = None):
        """`threads` prepare and finish pictures beside the network; `Threads(0)` does everything in the thread that asks."""
        self._plan = plan
        self._models = models
        self._threads = threads or Threads()
        self._as_many: BatchSize = 0
        self.windows = Windows(plan)

    def run(self, shard: Shard, jobs: Sequence[Job]) -> list[Picture]:
        """The picture or the rejection that comes of each job, in order. `shard` says which step of which chain."""
        inputs, unfit = self._inputs(shard, jobs)
        ready = [job for job in jobs if job.index not in unfit]
        makers = {"swap": self._swap, "inpaint": self._inpaint, "edit": self._edit}
        outputs = iter(makers.get(self._plan.step(shard).kind, self._generate)(shard, ready, inputs) if ready else ())
        given = ((job, None if job.index in unfit else next(outputs)) for job in jobs)

        def finished(item: tuple[Job, Output | None]) -> Picture:
            job, output = item
            return self._finished(shard, job, output, inputs) if output else rejection(self._plan, shard, job, unfit[job.index])

        return list(self._threads.in_order(finished, given))

    @contextmanager
    def in_batches_of(self, size: BatchSize) -> Iterator[None]:
        """For the length of the block, generators fill their batches up to `size` images, so that rounding is that of such a batch."""
        self._as_many = size
        try:
            yield
        finally:
            self._as_many = 0

    def _generator(self, step: ChainStep) -> Generator:
        generator = self._models.get(step.generator, step.checkpoint)
        generator.pad_to = self._as_many(type(generator).batch_size) if callable(self._as_many) else self._as_many
        return generator

    def compressed(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """An image of the dataset's size after the compression that the manifest wants reals and fakes alike to go through, if any.

        `name` is the id of a real image, or the group of a fake: it decides the quality.
        """
        manifest = self._plan.manifest
        asked = manifest.parity.recompress
        return recompressed(pixels, asked, derive_seed(manifest.seed, name)) if asked else pixels

    def _inputs(self, shard: Shard, jobs: Sequence[Job]) -> tuple[dict[int, Input], dict[int, str]]:
        """What each job works on, by its index, and the reason against each whose picture is too small; nothing for steps from seeds."""
        step = self._plan.step(shard)
        inputs: dict[int, Input] = {}
        unfit: dict[int, str] = {}
        if step.kind not in ON_IMAGES:
            return inputs, unfit
        side = None if self.windows.resamples else self._square(shard, step)
        for job in jobs:
            try:
                inputs[job.index] = self.windows.input(job, side)
            except Unfit as error:
                unfit[job.index] = error.reason
        return inputs, unfit

    def _square(self, shard: Shard, step: ChainStep) -> int | None:
        """The side of the square that a step takes of its pictures, if it takes one."""
        generator = self._generator(step)
        if step.kind == "inpaint":
            return self._painted_side(shard) or generator.resolution
        squared = step.kind == "edit" and generator.edit_input(generator.parse_parameters(dict(step.parameters))) == "square"
        return generator.resolution if squared else None

    def _painted_side(self, shard: Shard) -> int | None:
        """At which side a picture is put together again: the dataset's where it is final and has one, else (None) the generator's."""
        return side_of(self._plan.manifest.size) if shard.role == "final" else None

    def _swap(self, shard: Shard, jobs: Sequence[Job], inputs: Mapping[int, Input]) -> Iterator[Output]:
        step = self._plan.step(shard)
        pairs = [
            Pair(
                job.seed,
                job.drawn["source"].load,
                inputs[job.index].open,
                job.drawn["source"].sha256,
                job.drawn["target"].sha256 if "target" in job.drawn else None,
            )
            for job in jobs
        ]
        return self._faces.swap(self._generator(step), pairs, step.parameters)

    def _inpaint(self, shard: Shard, jobs: Sequence[Job], inputs: Mapping[int, Input]) -> Iterator[Output]:
        step = self._plan.step(shard)
        paintings = [Painting(job.seed, inputs[job.index].open, partial(self._mask, step, job, inputs[job.index].cut_at)) for job in jobs]
        return inpaint(self._generator(step), paintings, step, self._painted_side(shard))

    def _mask(self, step: ChainStep, job: Job, cut_at: Place | None, original: np.ndarray) -> np.ndarray | None:
        """The mask of a job's image, which is a square at its stored size; None if there is nothing to mask."""
        spec = step.mask
        assert spec is not None
        if masks.is_empty(spec, job.seed):
            return np.zeros(original.shape[:2], bool)
        if spec.face is not None:
            return masks.parse(self._faces.parser, original, spec)
        if spec.folder is None:
            return masks.draw(spec, job.seed, len(original))
        target = job.drawn["target"].id if "target" in job.drawn else job.above.row.chain[0].get("target") if job.above else None
        image = self._plan.real_image(target)
        root = None if image is None or image.file is None else self._plan.manifest.reals[image.id.split("/")[1]].path
        if image is None or root is None:
            raise InputError("a folder of masks needs a chain that begins with a real image of a folder", "Give the first step a `target`")
        side = len(original)
        if cut_at is None:
            return masks.read(spec.folder, image, root, lambda mask: fit(mask, side))
        top, left = cut_at
        return masks.read(spec.folder, image, root, lambda mask: mask[top : top + side, left : left + side])

    def _edit(self, shard: Shard, jobs: Sequence[Job], inputs: Mapping[int, Input]) -> Iterator[Output]:
        step = self._plan.step(shard)
        generator = self._generator(step)
        pictures, seeds = [inputs[job.index].open for job in jobs], [job.seed for job in jobs]
        return edit(generator, pictures, seeds, step.parameters, lambda: self._faces.detector, self._threads)

    def _generate(self, shard: Shard, jobs: Sequence[Job], inputs: Mapping[int, Input]) -> Iterator[Output]:
        """What a step that works on no pictures makes: samples, pictures of prompts. Each batch is finished while the next is made."""
        step = self._plan.step(shard)
        generator = self._generator(step)
        seeds = [job.seed for job in jobs]
        request: Request = PromptRequest(seeds, [job.prompt or "" for job in jobs]) if step.kind == "prompt" else SampleRequest(seeds)
        for batch in generator.batches(request, **step.parameters):
            yield from taken(batch)

    def _finished(self, shard: Shard, job: Job, output: Output, inputs: Mapping[int, Input]) -> Picture:
        """An output checked, with the place of its input, nearer to its real one where the step asks for it, and as it is stored."""
        step, output = self._plan.step(shard), output.checked()
        if step.kind in ("edit", "inpaint"):
            output = replace(output, cut_at=inputs[job.index].cut_at)
        if step.kind == "edit" and step.is_aligned:
            output = aligned(output, step, job.seed, inputs[job.index].open, job.drawn["target"])
        return self._picture(shard, job, output)

    def _picture(self, shard: Shard, job: Job, output: Output) -> Picture:
        """An output as it is stored. An intermediate image stays as it was made; a final image gets its past and the dataset's size."""
        if output.picture is None:
            return rejection(self._plan, shard, job, output.reason or rejections.BLANK, in_stored_pixels(output.measures, None))
        cut_at = _place(job, output)
        if shard.role != "final":
            measures = in_stored_pixels(output.measures, None) | ({CUT_AT: list(cut_at)} if cut_at else {})
            return Picture(fake_row(self._plan, shard, job, measures), output.picture, output.mask)
        row = fake_row(self._plan, shard, job, {} if job.past is None else {"history": job.past.as_data()})
        try:
            frame = self.windows.of_fake(row, output.picture.shape, cut_at)
        except Unfit as unfit:
            return rejection(self._plan, shard, job, unfit.reason, in_stored_pixels(output.measures, None))
        row = replace(row, measures=in_stored_pixels(output.measures, frame) | row.measures | _moved_to(cut_at, frame))
        mask = None if output.mask is None else masks.framed(output.mask, frame)
        if mask is not None and not mask.any() and output.mask is not None and output.mask.any():
            return rejection(self._plan, shard, job, rejections.OUT_OF_WINDOW, row.measures)
        pixels = output.picture
        if job.past is not None and self.windows.resamples:
            pixels = with_history(pixels, job.past, self._plan.manifest.parity)
        pixels = frame_of(pixels.shape, self._plan.manifest.size, 0).of(pixels) if self.windows.resamples else frame.of(pixels)
        if job.past is not None and not self.windows.resamples:
            pixels = with_history(pixels, job.past, self._plan.manifest.parity)
            mask = None if mask is None else masks.filling(mask, *pixels.shape[:2])
        pixels = self.compressed(pixels, row.group)
        refused = against_picture(self._plan.manifest.filters, pixels)
        return Picture(row, pixels, mask) if refused is None else rejection(self._plan, shard, job, refused, row.measures)

    @cached_property
    def _faces(self) -> FaceSwaps:
        return FaceSwaps(self._plan.manifest.faces, self._plan.catalogue, self._models.device, self._threads)


def _place(job: Job, output: Output) -> Place | None:
    """Where a picture begins in the real image behind it: as its step says, or as the step before said where the size stayed."""
    if output.cut_at is not None or job.above is None or job.above.pixels is None or output.picture is None:
        return output.cut_at
    return Windows.cut_at(job.above.row) if job.above.pixels.shape == output.picture.shape else None


def _moved_to(cut_at: Place | None, frame: Frame) -> dict[str, Any]:
    """The measure that says where the stored window of a picture begins."""
    return {} if cut_at is None else {CUT_AT: [cut_at[0] + frame.top, cut_at[1] + frame.left]}

"""One step of a chain over a batch of jobs: the generator runs once, and what it gives is judged and brought to its stored form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial

import numpy as np

from generators.base import PromptRequest, Request, SampleRequest
from generators.errors import InputError
from generators.seeding import derive_seed
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.models import Models
from pipelines.make.output import Output, judged
from pipelines.make.past import recompressed, with_history
from pipelines.make.regions import masks
from pipelines.make.regions.edits import edit
from pipelines.make.regions.inpainting import Painting, inpaint
from pipelines.make.regions.places import in_stored_pixels
from pipelines.make.regions.swaps import FaceSwaps, Open, Pair
from pipelines.make.rows import Job, Picture, fake_row, rejection
from pipelines.manifest.chains import ChainStep
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard


class Steps:
    """Runs the steps of a plan's chains. Models and face networks stay loaded."""

    def __init__(self, plan: Plan, models: Models):
        self._plan = plan
        self._models = models

    def run(self, shard: Shard, jobs: Sequence[Job]) -> list[Picture]:
        """The picture or the rejection that comes of each job, in order. `shard` says which step of which chain."""
        if not jobs:
            return []
        makers = {"swap": self._swap, "inpaint": self._inpaint}
        outputs = makers.get(self._plan.step(shard).kind, self._generate)(shard, jobs)
        return [self._picture(shard, job, output) for job, output in zip(jobs, outputs, strict=True)]

    def compressed(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """An image of the dataset's size after the compression that the manifest wants reals and fakes alike to go through, if any.

        `name` is the id of a real image, or the group of a fake: it decides the quality.
        """
        manifest = self._plan.manifest
        asked = manifest.parity.recompress
        return recompressed(pixels, asked, derive_seed(manifest.seed, name)) if asked else pixels

    def _swap(self, shard: Shard, jobs: Sequence[Job]) -> Iterator[Output]:
        step = self._plan.step(shard)
        pairs = [Pair(job.seed, job.drawn["source"].load, _target(job)) for job in jobs]
        return self._faces.swap(self._models.get(step.generator, step.checkpoint), pairs, step.parameters)

    def _inpaint(self, shard: Shard, jobs: Sequence[Job]) -> Iterator[Output]:
        step = self._plan.step(shard)
        paintings = [Painting(job.seed, _target(job), partial(self._mask, step, job)) for job in jobs]
        size = self._plan.manifest.size if shard.role == "final" else None
        return inpaint(self._models.get(step.generator, step.checkpoint), paintings, step, size)

    def _mask(self, step: ChainStep, job: Job, original: np.ndarray) -> np.ndarray | None:
        """The mask of a job's image, which is a square at its stored size; None if there is nothing to mask."""
        spec = step.mask
        assert spec is not None
        if spec.face is not None:
            return masks.parse(self._faces.parser, original, spec)
        if spec.folder is None:
            return masks.draw(spec, job.seed, len(original))
        target = job.drawn["target"].id if "target" in job.drawn else job.above.row.chain[0].get("target") if job.above else None
        image = self._plan.real_image(target)
        root = None if image is None or image.file is None else self._plan.manifest.reals[image.id.split("/")[1]].path
        if image is None or root is None:
            raise InputError("a folder of masks needs a chain that begins with a real image of a folder", "Give the first step a `target`")
        return masks.read(spec.folder, image, root, len(original))

    def _generate(self, shard: Shard, jobs: Sequence[Job]) -> Iterator[Output]:
        """What a step that swaps no faces makes: samples, pictures of prompts, edits."""
        step = self._plan.step(shard)
        generator = self._models.get(step.generator, step.checkpoint)
        seeds = [job.seed for job in jobs]
        request: Request = SampleRequest(seeds)
        if step.kind == "edit":
            yield from edit(generator, [_target(job) for job in jobs], seeds, step.parameters, lambda: self._faces.detector)
            return
        if step.kind == "prompt":
            request = PromptRequest(seeds, [job.prompt or "" for job in jobs])
        yield from judged(generator.run(request, **step.parameters))

    def _picture(self, shard: Shard, job: Job, output: Output) -> Picture:
        """An output as it is stored. An intermediate image stays as it was made; a final image gets its past and the dataset's size."""
        size = self._plan.manifest.size if shard.role == "final" else None
        shape = None if output.picture is None else (output.picture.shape[0], output.picture.shape[1])
        measures = in_stored_pixels(output.measures, shape, size)
        if output.picture is None:
            return rejection(self._plan, shard, job, output.reason or rejections.BLANK, measures)
        if job.past is not None:
            measures = {**measures, "history": job.past.as_data()}
        row = fake_row(self._plan, shard, job, measures)
        if size is None:
            return Picture(row, output.picture, output.mask)
        pixels = output.picture if job.past is None else with_history(output.picture, job.past, self._plan.manifest.parity)
        mask = None if output.mask is None else masks.resized(output.mask, size)
        return Picture(row, self.compressed(fit(pixels, size), row.group), mask)

    @cached_property
    def _faces(self) -> FaceSwaps:
        return FaceSwaps(self._plan.manifest.faces, self._plan.catalogue, self._models.device)


def _target(job: Job) -> Open:
    """What a swap or an edit works on: the real image that was drawn for it, or the image of the step before."""
    if "target" in job.drawn:
        return job.drawn["target"].load
    assert job.above is not None and job.above.pixels is not None
    return partial(np.asarray, job.above.pixels)

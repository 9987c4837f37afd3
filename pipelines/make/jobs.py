"""The jobs of one step at one attempt: what each planned image is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipelines.make import rejections
from pipelines.make.framing import Unfit
from pipelines.make.past import History, read_history
from pipelines.make.rows import Job, Picture, prompt_of, rejection, seed_of
from pipelines.make.windows import Windows
from pipelines.plan.pairs import Drawn, NobodyLeft
from pipelines.plan.plan import Plan
from pipelines.plan.rules import against_prompt
from pipelines.plan.shards import Shard


def plan_jobs(
    plan: Plan, shard: Shard, indices: Iterable[int], attempt: int, inputs: Mapping[int, Picture]
) -> tuple[list[Job], list[Picture]]:
    """The jobs for the images `indices` of a shard, and a rejection for each image that cannot be tried.

    `inputs` holds the pictures of the step before, by index. An image that is not among them has nothing to work on.
    """
    jobs: list[Job] = []
    rejected: list[Picture] = []
    for index in indices:
        job = Job(index, attempt, seed_of(plan, shard, index, attempt), inputs.get(index))
        if shard.step and job.above is None:
            rejected.append(rejection(plan, shard, job, rejections.NO_INPUT))
            continue
        try:
            drawn = plan.draws(shard, index, attempt, job.above.row.chain if job.above else ())
        except NobodyLeft:
            rejected.append(rejection(plan, shard, job, rejections.NO_PERSON))
            continue
        prompt = prompt_of(plan.step(shard), job.seed)
        refused = against_prompt(plan.manifest.filters, prompt) if prompt is not None else None
        if refused is not None:
            rejected.append(rejection(plan, shard, job, refused))
            continue
        past = _past(plan, shard, index, job.above, drawn)
        jobs.append(replace(job, drawn=drawn, prompt=prompt, past=past))
    return jobs, rejected


def _past(plan: Plan, shard: Shard, index: int, above: Picture | None, drawn: Drawn) -> History | None:
    """The history that a final image is to get. None if the manifest asks for none, or the donor is no file, so that nothing is known."""
    if shard.role != "final" or not plan.manifest.parity.inherits:
        return None
    chain = above.row.chain if above else [{role: image.id for role, image in drawn.items()}]
    donor = plan.donor(shard, index, chain)
    if donor is None or donor.file is None:
        return None
    history, windows = read_history(donor.file), Windows(plan)
    if windows.resamples:
        return history
    try:
        frame = windows.of_real(donor, (history.height, history.width))
    except Unfit:  # the dataset takes nothing of it; its compression is still that of the source
        return replace(history, window=(0, 0))
    return replace(history, window=(frame.top, frame.left))

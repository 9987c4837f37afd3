"""A manifest tried out before hours of work: everything loaded once, and one image of every step at the least cost.

Nothing is stored and nothing ends the check: each step has its own finding, and all of them are given.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from generators import registry
from generators.base import Generator, PromptRequest, Request, SampleRequest
from generators.errors import InputError
from pipelines.make.models import Models
from pipelines.make.output import Output
from pipelines.make.regions.edits import edit
from pipelines.make.regions.swaps import FaceSwaps, Pair
from pipelines.make.rejections import NOT_MOVED
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.sizes import Crop
from pipelines.plan.keys import prompts_of
from pipelines.plan.plan import Plan

SEED = 1
# The least that still runs every part of a method. A parameter that a method does not have, or that does not suit it, is left as it is.
CHEAPEST: tuple[dict[str, Any], ...] = (
    {"steps": 2, "skip": 1, "candidates": 1},
    {"steps": 2},
    {"steps": 4},  # PNDM's Runge-Kutta beginning
)
PAIRS = 8  # of real images that a swap is tried on


@dataclass(frozen=True)
class Finding:
    """One step that was tried: what, how long loading and one image took, the peak of this process' memory so far, and the image's size.

    `problem` is empty if all went well, and `fix` says what to do about it.
    """

    what: str
    subset: str
    load_seconds: float | None = None
    image_seconds: float | None = None
    peak_bytes: int = 0
    size: str = ""
    problem: str = ""
    fix: str = ""


def check(plan: Plan, device: str = "cpu") -> Iterator[Finding]:
    """Tries each different step of a plan once, as its findings come. What is missing comes first; the steps that need it are left out."""
    for missing in plan.missing:
        error = missing.error()
        yield Finding(missing.what, ", ".join(missing.needed_by), problem=error.message, fix=error.fix)
    tries = _Tries(plan, device)
    lacking = {missing.what for missing in plan.missing}
    tried: set[tuple[str, str, str]] = set()
    for subset, _, part in plan.manifest.walk():
        for position, step in enumerate(part.chain):
            name = (step.kind, step.generator, step.checkpoint)
            if name in tried:
                continue
            tried.add(name)
            if not _lacks(step, plan, lacking):
                real = step.target or step.source or part.real
                yield tries.finding(step, f"{subset} step {position + 1}", real, position == len(part.chain) - 1)


def _lacks(step: ChainStep, plan: Plan, lacking: set[str]) -> bool:
    """Whether something that the step needs is missing, which has been said."""
    networks = [network for _, network in plan.manifest.faces.networks] if step.uses_faces else []
    names = [step.checkpoint, *networks]
    parts = {part for name in names for part in (name, *plan.catalogue.entries[name].components.values())}
    reals = {real for real in (step.source, step.target) if real}
    return any(f"checkpoint {name}" in lacking for name in parts) or any(f"real source {real}" in lacking for real in reals)


class _Tries:
    """Models and face networks of one check. A model goes when the next is loaded."""

    def __init__(self, plan: Plan, device: str):
        self._plan = plan
        self._models = Models(plan.catalogue, device, keep=1)

    @cached_property
    def _faces(self) -> FaceSwaps:
        return FaceSwaps(self._plan.manifest.faces, self._plan.catalogue, self._models.device)

    def finding(self, step: ChainStep, subset: str, real: str, ends: bool) -> Finding:
        """Loads what the step needs and makes one image, whatever comes of it. What `ends` a chain must be as large as the dataset's
        window."""
        wanted = self._plan.manifest.size
        what = f"{step.kind} {step.generator}/{step.checkpoint}"
        load_seconds = image_seconds = None
        size = problem = fix = ""
        start = time.perf_counter()
        try:
            generator = self._models.get(step.generator, step.checkpoint)
            load_seconds = time.perf_counter() - start
            start = time.perf_counter()
            output = self._output(step, generator, real)
            image_seconds = time.perf_counter() - start
            if output.picture is None:
                problem = f"no image: {output.reason}"
            elif output.picture.std() == 0:
                problem = "the image is of one colour"
            elif ends and isinstance(wanted, Crop) and min(output.picture.shape[:2]) < wanted.crop:
                problem = f"it makes {output.picture.shape[1]}x{output.picture.shape[0]} px, smaller than the window of {wanted.crop} px"
                fix = "Crop less, or add a step that enlarges"
            else:
                size = f"{output.picture.shape[1]}x{output.picture.shape[0]}"
        except InputError as error:
            problem, fix = error.message, error.fix
        except Exception as error:  # whatever a checkpoint does to its method is a finding
            problem = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        if problem and not fix:
            fix = "Check the checkpoint, its options and the step's parameters"
        return Finding(what, subset, load_seconds, image_seconds, peak_bytes(), size, problem, fix)

    def _output(self, step: ChainStep, generator: Generator, real: str) -> Output:
        """One image, or why there is none. Real images stand for those that a step before would make."""
        parameters, seeds = cheapest(step), [SEED]
        pictures = self._pictures(real, generator.resolution)
        if step.kind == "swap":
            output = Output(None, "there is no real image")
            for number in range(PAIRS):  # until faces are found in one
                pair = Pair(SEED, pictures(number), pictures(number + 1))
                output = next(iter(self._faces.swap(generator, [pair], parameters)))
                if output.picture is not None or output.reason == NOT_MOVED:
                    break
            return Output(pictures(0)(), None) if output.reason == NOT_MOVED else output  # two steps of diffusion move nobody far
        if step.kind in ("edit", "inpaint"):
            return next(iter(edit(generator, [pictures(0)], seeds, parameters, lambda: self._faces.detector)))
        request: Request = PromptRequest(seeds, prompts_of(step)[:1]) if step.kind == "prompt" else SampleRequest(seeds)
        return Output(generator.run(request, **parameters).images[0], None)

    def _pictures(self, real: str, side: int) -> Callable[[int], Callable[[], np.ndarray]]:
        """Real images by number; noise where the source is not there."""
        pool = self._plan.pools.get(real)
        if pool is not None and pool.images:
            return lambda number: pool.images[number % len(pool.images)].load
        noise = np.random.default_rng(SEED).integers(0, 256, (side, side, 3), dtype=np.uint8)
        return lambda number: lambda: noise


def cheapest(step: ChainStep) -> dict[str, Any]:
    """The step's parameters with as few denoising steps and candidates as its method takes."""
    method = registry.get(step.generator)
    for few in CHEAPEST:
        wanted = {name: value for name, value in few.items() if name in method.Parameters.model_fields}
        parameters = {**step.parameters, **wanted}
        if step.generator == "pndm" and parameters.get("steps") == 2 and not parameters.get("skip_prk_steps"):
            continue
        try:
            method.parse_parameters(parameters)
        except InputError:
            continue
        return parameters
    return dict(step.parameters)


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

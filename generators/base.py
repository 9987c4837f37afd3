"""What every generator is: a class with a name, parameters that decide pixels, and one of four ways to make an image.

A new method is one file in `generators/methods/`, named as the method is, with one class under `@register`. It gives

- `Parameters`: a frozen pydantic model, each field with the field's own name (`truncation_psi`, `eta`) and a default;
- `load`: builds the network from a checkpoint, once, and keeps it;
- one or more of `_sample`, `_prompt`, `_swap`, `_edit`: a batch that fits in memory, seeds in, `uint8` RGB out.

This file does the rest: validating parameters, cutting a request into batches, halving a batch that does not fit in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.images import check_images

Family = Literal["GAN", "DM"]
Step = Literal["sample", "prompt", "swap", "edit"]


class Parameters(BaseModel):
    """What a manifest may say about a step, beyond its generator and checkpoint. Everything here decides pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Request:
    """What a generator is asked for: one image for each seed.

    `prompts` belong to a prompt step; `sources` and `targets` (`uint8` `[N, H, W, 3]`, faces already aligned and at the generator's
    `crop`) to a swap; `targets` alone to an edit.
    """

    step: Step
    seeds: Sequence[int]
    prompts: Sequence[str] | None = None
    sources: np.ndarray | None = None
    targets: np.ndarray | None = None

    def part(self, rows: slice) -> Request:
        prompts = None if self.prompts is None else self.prompts[rows]
        sources = None if self.sources is None else self.sources[rows]
        targets = None if self.targets is None else self.targets[rows]
        return Request(self.step, self.seeds[rows], prompts, sources, targets)


@dataclass
class Result:
    """`images` is `uint8` RGB `[N, H, W, 3]`; `rejected` gives a reason for each image that must not be used (a safety checker's flag);
    `columns` holds a value for each image that is worth keeping beside it (a candidate's rank, a similarity)."""

    images: np.ndarray
    rejected: dict[int, str] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Crop:
    """How a swapper wants its faces: `template` as `generators.faces` names it, `size` in pixels."""

    template: str
    size: int


class Generator(ABC):
    """A method with its network loaded. Made by `load`, never by calling the class."""

    name: ClassVar[str]  # set by @register
    title: ClassVar[str]  # as the paper's Table 1 writes it
    family: ClassVar[Family]
    steps: ClassVar[tuple[Step, ...]]
    licence: ClassVar[str]  # of the official weights, as their authors state it
    output_version: ClassVar[int] = 1  # raise it when a change of code changes pixels: shards made before become stale
    networks: ClassVar[tuple[str, ...]] = ("network",)  # attributes whose `forward` takes the time, for `torch.compile`
    components: ClassVar[tuple[str, ...]] = ()  # further checkpoints that it needs beside its own, by role ("arcface")
    reconstruction: ClassVar[dict[str, Any] | None] = None  # parameters of the edit that only encodes and decodes; None: no autoencoder
    Parameters: ClassVar[type[Parameters]] = Parameters

    crop: Crop | None = None  # set on load by generators that swap faces
    batch_size: int = 8  # images made at once; halved by itself when memory does not suffice

    @classmethod
    @abstractmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Generator:
        """Reads `checkpoint` and builds the network in eval mode. Raises CheckpointError if the file is not what this method needs."""

    @property
    @abstractmethod
    def resolution(self) -> int:
        """Height and width of the images, in pixels."""

    def sample(self, seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """One image for each seed: `uint8` RGB `[N, H, W, 3]`."""
        return self.run(Request("sample", seeds), **parameters).images

    def prompt(self, prompts: Sequence[str], seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """One image for each prompt and seed: `uint8` RGB `[N, H, W, 3]`."""
        return self.run(Request("prompt", seeds, prompts=prompts), **parameters).images

    def swap(self, sources: np.ndarray, targets: np.ndarray, seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """The identity of each source on each target. All `uint8` RGB `[N, H, W, 3]`, aligned as `crop` says."""
        return self.run(Request("swap", seeds, sources=sources, targets=targets), **parameters).images

    def edit(self, images: np.ndarray, seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """Each image reworked: `uint8` RGB `[N, H, W, 3]` in and out."""
        return self.run(Request("edit", seeds, targets=images), **parameters).images

    def embed_faces(self, faces: np.ndarray) -> np.ndarray:
        """Unit identity vectors, float32 `[N, D]`, of `uint8` `[N, H, W, 3]` faces at `crop`, from a swapper's own identity network.

        InputError if it has none.
        """
        raise InputError(f"{self.name} has no identity network of its own", "Name one as `identity` under `faces`")

    def run(self, request: Request, **parameters: Any) -> Result:
        """Makes a request of any length, batch by batch.

        Raises InputError for a step that this generator does not have or a parameter that it does not know.
        """
        if request.step not in self.steps:
            raise InputError(f"{self.name} cannot {request.step}", f"It can {' or '.join(self.steps)}")
        settings = self.parse_parameters(parameters)
        whole = Result(np.empty((0, self.resolution, self.resolution, 3), np.uint8))
        start = 0
        while start < len(request.seeds):
            part = request.part(slice(start, start + self.batch_size))
            made = self._within_memory(partial(self._run_batch, part, settings))
            if made is None:
                continue  # the batch was halved: cut again
            check_images(made.images, len(part.seeds), self.name)
            whole.rejected.update({start + index: reason for index, reason in made.rejected.items()})
            for column, values in made.columns.items():
                whole.columns.setdefault(column, []).extend(values)
            if start == 0:  # the whole at once: what grows by copying needs its memory twice
                whole.images = np.empty((len(request.seeds), *made.images.shape[1:]), np.uint8)
            whole.images[start : start + len(part.seeds)] = made.images
            start += len(part.seeds)
        return whole

    @classmethod
    def parse_parameters(cls, parameters: dict[str, Any]) -> Any:
        """`parameters` as this generator's `Parameters`, defaults filled in; InputError names the first thing that is wrong."""
        try:
            return cls.Parameters(**parameters)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "parameters"
            known = ", ".join(cls.Parameters.model_fields) or "none"
            raise InputError(f"{cls.name}: {key}: {first['msg']}", f"Its parameters are: {known}") from None

    def _run_batch(self, request: Request, settings: Any) -> Result:
        """One batch. A generator that rejects images of its own or has columns to give overrides this."""
        seeds = list(request.seeds)
        sources: Any = request.sources  # there, as `targets` are, for the steps that work on images
        targets: Any = request.targets
        make: dict[str, Callable[[], np.ndarray]] = {
            "sample": lambda: self._sample(seeds, settings),
            "prompt": lambda: self._prompt(list(request.prompts or ()), seeds, settings),
            "swap": lambda: self._swap(sources, targets, seeds, settings),
            "edit": lambda: self._edit(targets, seeds, settings),
        }
        with torch.inference_mode():
            return Result(make[request.step]())

    def _within_memory(self, make: Callable[[], Result]) -> Result | None:
        """`make()`, or None after halving `batch_size` because the device ran out of memory. A batch of one that fails is an error."""
        try:
            return make()
        except torch.OutOfMemoryError:
            if self.batch_size == 1:
                raise InputError(
                    f"{self.name} does not fit in the device's memory even with a batch of one", "Use a larger GPU or a smaller checkpoint"
                ) from None
            self.batch_size //= 2
            torch.cuda.empty_cache()
            return None

    def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
        raise InputError(f"{self.name} has no sample step")

    def _prompt(self, prompts: list[str], seeds: list[int], settings: Any) -> np.ndarray:
        raise InputError(f"{self.name} has no prompt step")

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        raise InputError(f"{self.name} has no swap step")

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        raise InputError(f"{self.name} has no edit step")

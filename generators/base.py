"""What every generator is: a class with a name, parameters that decide pixels, and one of five ways to make an image.

A new method is one file in `generators/methods/`, named as the method is, with one class under `@register`. It gives

- `Parameters`: a frozen pydantic model, each field with the field's own name (`truncation_psi`, `eta`) and a default;
- `load`: builds the network from a checkpoint, once, and keeps it;
- one or more of `_sample`, `_prompt`, `_swap`, `_edit`, `_inpaint`: a batch that fits in memory, seeds in, `uint8` RGB out.

This file and `generators.running` do the rest: they check the parameters, cut a request into batches, and halve a batch that does not
fit in memory. Where the last act of a method is `fetch_uint8`, a GPU makes the next batch while the pixels of this one come to the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_serializer

from generators.batching import Growth
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.numbers import StrictNumbers, parsed
from generators.numerics import state_numerics
from generators.requests import EditRequest, InpaintRequest, Output, PromptRequest, Request, Result, SampleRequest, StepKind, SwapRequest
from generators.running import batches

Family = Literal["GAN", "DM", "AR"]  # AR: autoregressive, token by token
EditInput = Literal["square", "picture", "faces"]


class Parameters(StrictNumbers):
    """What a manifest may say about a step, beyond its generator and checkpoint. Everything here decides pixels.

    A parameter that a generator got after shards were made with it stands in `later`. Its default is what was done before, and is left
    out of the data that keys are made of: so those shards keep their keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if key not in self.later or value != fields[key].default}


class Options(StrictNumbers):
    """What a checkpoint's options may say: what its weights cannot say of themselves, and how it is run. All of it decides pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    precision: Literal["float32", "float16", "bfloat16", "released"] = "float32"
    batch_size: int | None = Field(None, ge=1, le=4096)  # images made at once
    exact: bool = Field(False, strict=True)  # every batch of the same shape and with the same kernels
    compile: bool = Field(False, strict=True)
    cuda_graphs: bool = Field(False, strict=True)  # of networks that do the same in every batch
    revision: str | None = None  # of a Hub repository


@dataclass(frozen=True)
class Crop:
    """How a swapper wants its faces: `template` as `generators.faces` names it, `size` in pixels."""

    template: str
    size: int


class Generator(ABC):
    """A method with its network loaded. `load` builds it."""

    name: ClassVar[str]  # set by @register
    title: ClassVar[str]  # as the paper's Table 1 writes it
    family: ClassVar[Family]
    kinds: tuple[StepKind, ...]  # the kinds of step that it can do; a checkpoint may leave out some of its class's
    limit: str = ""  # why a loaded checkpoint cannot do all kinds of its class
    licence: ClassVar[str]  # of the official weights, as their authors state it
    output_version: ClassVar[int] = 1  # raise it when a change of code changes pixels: earlier shards then become stale
    networks: tuple[str, ...] = ("network",)  # the attributes that hold the slow networks: those that `torch.compile` is to speed up
    repeats: ClassVar[bool] = False  # True: the networks do the same in every batch of one size, so that CUDA graphs can hold them
    needs_gradients: ClassVar[bool] = False  # True: the method differentiates while it makes an image (guidance by a loss)
    components: ClassVar[tuple[str, ...]] = ()  # further checkpoints that it needs beside its own, by role ("arcface")
    reconstruction: ClassVar[dict[str, Any] | None] = None  # parameters of the edit that only encodes and decodes; None: no autoencoder
    Parameters: ClassVar[type[Parameters]] = Parameters
    Options: ClassVar[type[Options]] = Options

    crop: Crop | None = None  # set on load by generators that swap faces
    batch_size: int = 8  # images made at once; halved by itself when memory does not suffice, unless `exact`
    released_precision: ClassVar[str] = "float32"  # what the authors run it in on a GPU
    precision: str = "float32"  # set by `load_generator`
    exact: bool = False  # the same
    graphs: bool = False  # the same: its networks are CUDA graphs, so that every batch is filled up
    growth: Growth | None = None  # how its batches grow on a GPU
    pad_to: int = 0  # a batch of fewer images is filled up to so many, which are not used: its shape decides rounding

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
        return self.run(SampleRequest(seeds), **parameters).images

    def prompt(self, prompts: Sequence[str], seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """One image for each prompt and seed: `uint8` RGB `[N, H, W, 3]`."""
        return self.run(PromptRequest(seeds, prompts), **parameters).images

    def swap(self, sources: np.ndarray, targets: np.ndarray, seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """The identity of each source on each target. All `uint8` RGB `[N, H, W, 3]`, aligned as `crop` says."""
        return self.run(SwapRequest(seeds, sources, targets), **parameters).images

    def edit(self, images: np.ndarray, seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """Each image reworked: `uint8` RGB `[N, H, W, 3]` in and out."""
        return self.run(EditRequest(seeds, images), **parameters).images

    @classmethod
    def edit_input(cls, settings: Any) -> EditInput:
        """What an edit with these parsed parameters is to be given.

        "square": the image brought to `resolution`. "picture": the image at its own size. "faces": its faces, cut out and pasted back by
        the methods of `generators.restorer.Restorer`.
        """
        return "square"

    def inpaint(self, images: np.ndarray, masks: np.ndarray, seeds: Sequence[int], **parameters: Any) -> np.ndarray:
        """Each image reworked inside its mask: `uint8` RGB `[N, H, W, 3]` in and out, masks bool `[N, H, W]`.

        It is the model's own image: pixels outside the mask may differ from the original. `pipelines` puts the original back.
        """
        return self.run(InpaintRequest(seeds, images, masks), **parameters).images

    def embed_faces(self, faces: np.ndarray) -> np.ndarray:
        """Unit identity vectors, float32 `[N, D]`, of `uint8` `[N, H, W, 3]` faces at `crop`, from a swapper's own identity network.

        InputError if it has none.
        """
        raise InputError(f"{self.name} has no identity network of its own", "Name one as `identity` under `faces`")

    def run(self, request: Request, **parameters: Any) -> Result:
        """Makes a request of any length, batch by batch.

        Raises InputError for a kind of step that this generator cannot do or a parameter that it does not know.
        """
        whole = Result(np.empty((0, self.resolution, self.resolution, 3), np.uint8))
        start = 0
        for batch in self.batches(request, **parameters):
            whole.rejected.update({start + index: reason for index, reason in batch.rejected.items()})
            for column, values in batch.columns.items():
                whole.columns.setdefault(column, []).extend(values)
            if start == 0:  # the whole at once: what grows by copying needs its memory twice
                whole.images = np.empty((len(request.seeds), *batch.images.shape[1:]), np.uint8)
            whole.images[start : start + len(batch.images)] = batch.images
            start += len(batch.images)
        return whole

    def batches(self, request: Request, **parameters: Any) -> Iterator[Result]:
        """`run`, one result for each batch as soon as it is made, in order. Raises as `run` does, before the first batch."""
        if request.kind not in self.kinds:
            because = f": {self.limit}" if self.limit else ""
            raise InputError(f"{self.name} cannot {request.kind}{because}", f"It can {' or '.join(self.kinds) or 'do nothing'}")
        yield from batches(self, request, self.parse_parameters(parameters))

    @classmethod
    def parse_parameters(cls, parameters: dict[str, Any]) -> Any:
        """`parameters` as this generator's `Parameters`, defaults filled in; InputError names the first thing that is wrong."""
        return parsed(cls.Parameters, parameters, cls.name, "parameters")

    @classmethod
    def parse_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a checkpoint of this generator with their types right, only those that were given.

        InputError for one that this generator does not read, or a value that it cannot have.
        """
        given: BaseModel = parsed(cls.Options, options, f"{cls.name}: options", "options")
        return given.model_dump(exclude_unset=True, exclude_none=True)

    def make_batch(self, request: Request, settings: Any) -> Output:
        """One batch, as the method for the request's kind gives it; a GPU may not have made it yet."""
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the graphs gave for the batch before is done with
        if torch.cuda.is_initialized():  # the settings are of the whole process, and another generator may have been loaded or used since
            state_numerics(self.exact)
        with torch.no_grad() if self.needs_gradients else torch.inference_mode():
            return self._output(request, list(request.seeds), settings)

    def _output(self, request: Request, seeds: list[int], settings: Any) -> Output:
        match request:
            case SampleRequest():
                return self._sample(seeds, settings)
            case PromptRequest():
                return self._prompt(list(request.prompts), seeds, settings)
            case SwapRequest():
                return self._swap(request.sources, request.targets, seeds, settings)
            case EditRequest():
                return self._edit(request.targets, seeds, settings)
            case InpaintRequest():
                return self._inpaint(request.targets, request.masks, seeds, settings)
        raise TypeError(f"{type(request).__name__} is no request of a known kind")

    def _sample(self, seeds: list[int], settings: Any) -> Output:
        raise InputError(f"{self.name} has no sample step")

    def _prompt(self, prompts: list[str], seeds: list[int], settings: Any) -> Output:
        raise InputError(f"{self.name} has no prompt step")

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Any) -> Output:
        raise InputError(f"{self.name} has no swap step")

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> Output:
        raise InputError(f"{self.name} has no edit step")

    def _inpaint(self, images: np.ndarray, masks: np.ndarray, seeds: list[int], settings: Any) -> Output:
        raise InputError(f"{self.name} has no inpaint step")

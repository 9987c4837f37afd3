"""What every generator is: a class with a name, parameters that decide pixels, and one of five ways to make an image.

A new method is one file in `generators/methods/`, named as the method is, with one class under `@register`. It gives

- `Parameters`: a frozen pydantic model, each field with the field's own name (`truncation_psi`, `eta`) and a default;
- `load`: builds the network from a checkpoint, once, and keeps it;
- one or more of `_sample`, `_prompt`, `_swap`, `_edit`, `_inpaint`: a batch that fits in memory, seeds in, `uint8` RGB out.

This file does the rest. It checks the parameters, cuts a request into batches, and halves a batch that does not fit in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_serializer

from generators import half
from generators.batching import Growth
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.images import check_images
from generators.memory import OutOfMemory, is_out_of_memory, release_memory
from generators.numbers import StrictNumbers, parsed

Family = Literal["GAN", "DM", "AR"]  # AR: autoregressive, token by token
StepKind = Literal["sample", "prompt", "swap", "edit", "inpaint"]
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
    revision: str | None = None  # of a Hub repository


@dataclass(frozen=True)
class Request:
    """What a generator is asked for: one image for each seed. Each kind of step has a request of its own below.

    Every field holds one value for each seed. InputError if a field is longer or shorter than the seeds.
    """

    kind: ClassVar[StepKind]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        for name, values in self._values().items():
            if len(values) != len(self.seeds):
                raise InputError(
                    f"{self.kind}: seeds and {name} differ in number ({len(self.seeds)} and {len(values)})", f"Give as many {name} as seeds"
                )

    def part(self, rows: slice) -> Self:
        """The request for these images alone."""
        return replace(self, **{name: values[rows] for name, values in self._values().items()})

    def rows(self, places: Sequence[int]) -> Self:
        """The request for the images at these places alone."""
        chosen: dict[str, Any] = {
            name: values[list(places)] if isinstance(values, np.ndarray) else [values[place] for place in places]
            for name, values in self._values().items()
        }
        return replace(self, **chosen)

    def padded(self, count: int) -> Self:
        """The request with its last image asked for again until there are `count`."""
        have = len(self.seeds)
        return self if count <= have else self.rows([*range(have), *[have - 1] * (count - have)])

    def _values(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True)
class SampleRequest(Request):
    """Images from noise alone."""

    kind = "sample"


@dataclass(frozen=True)
class PromptRequest(Request):
    """One image for each text and seed."""

    kind = "prompt"
    prompts: Sequence[str]


@dataclass(frozen=True)
class SwapRequest(Request):
    """The identities of `sources` on `targets`: both `uint8` `[N, H, W, 3]`, faces already aligned, at the generator's `crop`."""

    kind = "swap"
    sources: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class EditRequest(Request):
    """The images `targets` reworked: `uint8` `[N, H, W, 3]`."""

    kind = "edit"
    targets: np.ndarray


@dataclass(frozen=True)
class InpaintRequest(Request):
    """The images `targets` reworked inside `masks`: `uint8` `[N, H, W, 3]`, and bool `[N, H, W]`, true where the image is to change."""

    kind = "inpaint"
    targets: np.ndarray
    masks: np.ndarray


@dataclass
class Result:
    """`images` is `uint8` RGB `[N, H, W, 3]`; `rejected` gives a reason for each image that must not be used (a safety checker's flag);
    `columns` holds a value for each image that is worth keeping beside it (a candidate's rank, a similarity).

    A `made_with` among them says how it was made, where that is not the plain way: `batch`, how many images were made at once, and the
    `precision` of the network."""

    images: np.ndarray
    rejected: dict[int, str] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def first(self, count: int) -> Result:
        """The first `count` images alone."""
        if count >= len(self.images):
            return self
        rejected = {place: reason for place, reason in self.rejected.items() if place < count}
        return Result(self.images[:count], rejected, {name: values[:count] for name, values in self.columns.items()})

    def put(self, places: Sequence[int], other: Result) -> None:
        """Puts the images of `other` at `places`."""
        images = np.array(self.images)
        images[list(places)] = other.images
        self.images = images
        for number, place in enumerate(places):
            self.rejected.pop(place, None)
            if number in other.rejected:
                self.rejected[place] = other.rejected[number]
            for name, values in self.columns.items():
                values[place] = other.columns[name][number]


Output = np.ndarray | Result  # what a method gives for a batch: images alone, or a result where it rejects or measures some


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
        settings = self.parse_parameters(parameters)
        start = 0
        while start < len(request.seeds):
            if self.growth is not None:
                self.batch_size = self.growth.size
                self.growth.begin()
            part = request.part(slice(start, start + self.batch_size))
            count, whole = len(part.seeds), part.padded(self.batch_size if self.exact else self.pad_to)
            batch = self._within_memory(partial(self._run_batch, whole, settings))
            if batch is None:
                continue  # the batch size was halved: cut again
            check_images(batch.images, len(whole.seeds), self.name)
            if self.growth is not None:
                self.growth.end(count)
            self._note(batch, len(whole.seeds))
            yield batch.first(count)
            start += count

    def _note(self, batch: Result, size: int) -> None:
        """Writes how a batch was made, if not in the plain way: float32 in batches of the usual size."""
        usual = type(self).batch_size
        known = batch.columns.pop("made_with", [{}] * size)
        plain: dict[str, Any] = {"batch": size} if self.batch_size != usual or self.exact or self.growth is not None or self.pad_to else {}
        if self.precision != "float32":
            plain = {"batch": size, "precision": self.precision}
        if plain or any(known):
            batch.columns["made_with"] = [plain | more for more in known]

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

    def _run_batch(self, request: Request, settings: Any) -> Result:
        """One batch: the method for the request's kind is called, and its images become a result if they are none yet."""
        if self.precision == "float32":
            return self._make(request, settings)
        with half.watching() as seen:
            result = self._make(request, settings)
        again = half.not_finite(seen, len(request.seeds))
        if again:  # float16 ends at 65,504
            result.columns["made_with"] = [{"precision": "float32"} if place in again else {} for place in range(len(request.seeds))]
            with half.in_float32(self):
                wide = self._make(request.rows(again), settings)
            wide.columns["made_with"] = [{"precision": "float32"}] * len(again)
            result.put(again, wide)
        return result

    def _make(self, request: Request, settings: Any) -> Result:
        with torch.no_grad() if self.needs_gradients else torch.inference_mode():
            output = self._output(request, list(request.seeds), settings)
        return output if isinstance(output, Result) else Result(output)

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

    def _within_memory(self, make: Callable[[], Result]) -> Result | None:
        """`make()`, or None after halving `batch_size` because the device ran out of memory. A batch of one that fails is an error."""
        try:
            return make()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if self.exact:
                raise OutOfMemory(
                    f"{self.name} does not fit in the device's memory with batches of {self.batch_size}, which `exact` holds it to",
                    "Give the checkpoint a smaller `batch_size` under `options`, or leave `exact` out",
                ) from None
            if self.batch_size == 1:
                raise OutOfMemory(
                    f"{self.name} does not fit in the device's memory even with a batch of one",
                    "Use a device with more memory, a smaller checkpoint, or its option `precision: bfloat16`",
                ) from None
        self.batch_size //= 2
        if self.growth is not None:
            self.growth.halved(self.batch_size)
        release_memory()
        return None

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

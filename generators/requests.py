"""What a generator is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from generators.errors import InputError
from generators.transfer import Fetched

StepKind = Literal["sample", "prompt", "swap", "edit", "inpaint"]


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


# What a method gives for a batch: images alone, which a GPU may still be sending; or a result where it rejects or measures some.
Output = np.ndarray | Fetched | Result

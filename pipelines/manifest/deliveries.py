"""What happens to a shared picture, as data: steps, the recipes that ship (`manifests/deliveries.yaml`), and chains of both."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from generators.errors import InputError
from generators.numbers import StrictNumbers
from pipelines.manifest import yaml_lines

CLEAN = "clean"  # what pictures are called that were not delivered
MOST_STEPS = 64  # of one delivery, those within `one_of` included
Number = int | float


class Model(StrictNumbers):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnyOf(Model):
    """One of some values, each as likely."""

    any: tuple[Any, ...] = Field(min_length=1, max_length=64)


def _number(low: Number, high: Number, whole: bool, optional: bool = False) -> Callable[[Any], Any]:
    """What reads a number, `[low, high]` or `{any: [...]}`, all within bounds: as the number, a pair, or `AnyOf`."""

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        between = isinstance(value, list | tuple)
        values = list(value) if between else _choices(value)
        kinds: Any = int if whole else (int, float)
        if between and len(values) != 2:
            raise ValueError("a range is written [low, high]; write {any: [...]} for one of several")
        if not values or any(isinstance(item, bool) or not isinstance(item, kinds) or not low <= item <= high for item in values):
            raise ValueError(f"{'whole numbers' if whole else 'numbers'} from {low} to {high}: one, [low, high] or {{any: [...]}}")
        if between and values[0] > values[1]:
            raise ValueError("the lower bound comes first")
        return tuple(values) if between else AnyOf.model_validate(value) if isinstance(value, Mapping) else value

    return read


def _word(*words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        values = _choices(value)
        if not values or any(item not in words for item in values):
            raise ValueError(f"{', '.join(words)}, or {{any: [...]}} of them")
        return AnyOf.model_validate(value) if isinstance(value, Mapping) else value

    return read


def _choices(value: Any) -> list[Any]:
    chosen = value.any if isinstance(value, AnyOf) else value.get("any", ()) if isinstance(value, Mapping) else [value]
    return list(chosen) if isinstance(chosen, list | tuple) else []


Side = Annotated[Any, BeforeValidator(_number(16, 4096, whole=True, optional=True))]
Quality = Annotated[Any, BeforeValidator(_number(1, 100, whole=True, optional=True))]
Grey = Annotated[Any, BeforeValidator(_number(0, 255, whole=True))]
Factor = Annotated[Any, BeforeValidator(_number(0.05, 4.0, whole=False, optional=True))]
Scale = Annotated[Any, BeforeValidator(_number(0.05, 4.0, whole=False))]
Share = Annotated[Any, BeforeValidator(_number(0.1, 1.0, whole=False))]
Margin = Annotated[Any, BeforeValidator(_number(0.0, 1.0, whole=False))]
Filter = Annotated[Any, BeforeValidator(_word("nearest", "display", "bilinear", "bicubic", "lanczos"))]
Chroma = Annotated[Any, BeforeValidator(_word("4:4:4", "4:2:2", "4:2:0"))]


class Resize(Model):
    """Proportions stay. `longest` is a bound on the longest side: a smaller picture stays as it is. `factor` may enlarge."""

    longest: Side = None
    factor: Factor = None
    filter: Filter = "bilinear"

    @model_validator(mode="after")
    def _one(self) -> Resize:
        if (self.longest is None) == (self.factor is None):
            raise ValueError("give either `longest` or `factor`")
        return self


class Crop(Model):
    """`share` of each side stays, drawn for height and width apart; the place is drawn too. Nothing is resampled."""

    share: Share


class Encode(Model):
    """Compressed, with the quality of the format's own library. `chroma` and `progressive` (a probability) are JPEG's; `effort` is WebP's
    method, 0 to 6. No metadata are written."""

    jpeg: Quality = None
    webp: Quality = None
    avif: Quality = None
    chroma: Chroma = "4:2:0"
    progressive: float = Field(0.0, ge=0, le=1)
    effort: int = Field(4, ge=0, le=6)

    @model_validator(mode="after")
    def _one(self) -> Encode:
        if sum(value is not None for value in (self.jpeg, self.webp, self.avif)) != 1:
            raise ValueError("give one of `jpeg`, `webp` and `avif`, with its quality")
        return self


class Screenshot(Model):
    """Drawn on a display at `scale`, and cut out with `margin` (a share of each side, drawn for the four sides apart) of a page of one
    `grey` (0 to 255) around it."""

    scale: Scale
    filter: Filter = "bilinear"
    margin: Margin = 0.0
    grey: Grey = 255


class Step(Model):
    """One thing that is done to a picture. `chance` is how often it is."""

    resize: Resize | None = None
    crop: Crop | None = None
    encode: Encode | None = None
    screenshot: Screenshot | None = None
    strip: Literal[True] | None = None
    one_of: tuple[tuple[Step, ...], ...] | None = Field(None, min_length=1, max_length=16)
    chance: float = Field(1.0, gt=0, le=1)

    @property
    def kind(self) -> str:
        return next(name for name in KINDS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one(self) -> Step:
        if sum(getattr(self, name) is not None for name in KINDS) != 1:
            raise ValueError(f"a step has exactly one of {', '.join(KINDS)}")
        return self


KINDS = ("resize", "crop", "encode", "screenshot", "strip", "one_of")


class Recipe(Model):
    """A named chain: what it stands for, and which public measurements its numbers follow."""

    about: str = Field(min_length=1)
    follows: tuple[str, ...] = Field(min_length=1)
    steps: tuple[Step, ...] = Field(min_length=1)


@cache
def recipes() -> dict[str, Recipe]:
    """Those that ship with the project, by name."""
    data, _ = yaml_lines.load(Path(str(resources.files("manifests"))) / "deliveries.yaml")
    return {name: Recipe.model_validate(entry) for name, entry in data.items()}


def _as_chain(value: Any) -> tuple[str | Step, ...]:
    """A name, a step, or a list of both, as a tuple of names and steps; one complaint in words for the first that is wrong."""
    chain: list[str | Step] = []
    for place, part in enumerate(value if isinstance(value, list | tuple) else [value]):
        if isinstance(part, str):
            if part not in recipes():
                close = difflib.get_close_matches(part, recipes(), n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(recipes())}"
                raise ValueError(f"there is no recipe {part!r}; {hint}")
            chain.append(part)
            continue
        try:
            chain.append(Step.model_validate(part))
        except ValidationError as error:
            first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
            at = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"step {place + 1}: {at}{': ' if at else ''}{message[:1].lower()}{message[1:]}") from None
    return tuple(chain)


def _of_bounded_length(chain: tuple[str | Step, ...]) -> tuple[str | Step, ...]:
    if not 1 <= _length(expanded(chain)) <= MOST_STEPS:
        raise ValueError(f"a delivery has 1 to {MOST_STEPS} steps")
    return chain


def _length(steps: Iterable[Step]) -> int:
    return sum(1 + sum(_length(branch) for branch in step.one_of or ()) for step in steps)


Delivery = Annotated[tuple[str | Step, ...], BeforeValidator(_as_chain)]


def expanded(delivery: Iterable[str | Step]) -> tuple[Step, ...]:
    """The steps of a delivery, one after the other, with those of its recipes written out."""
    return tuple(step for part in delivery for step in (recipes()[part].steps if isinstance(part, str) else (part,)))


def as_data(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Steps as plain data: all that decides what they do."""
    return [step.model_dump(mode="json", exclude_none=True) for step in steps]


def read_delivery(text: str) -> tuple[str | Step, ...]:
    """The delivery that a command line asks for: names with commas between them, or a YAML file that holds a list of names and steps.

    Raises InputError for a name that is not known, and for a file that cannot be read or is no delivery.
    """
    written: Any = [name.strip() for name in text.split(",")]
    if text.endswith((".yaml", ".yml")):
        written, _ = yaml_lines.load(Path(text))
    try:
        return _of_bounded_length(_as_chain(written))
    except ValueError as error:
        raise InputError(f"{text} is no delivery: {str(error).rstrip('?')}", "See docs/which-data.md") from None


def faults(deliveries: Mapping[str, tuple[str | Step, ...]]) -> str | None:
    """What is wrong with the deliveries of a manifest as a whole; None if nothing is."""
    if CLEAN in deliveries:
        return f"{CLEAN!r} is what pictures are called that were not delivered: choose another name"
    try:
        for chain in deliveries.values():
            _of_bounded_length(chain)
    except ValueError as error:
        return str(error)
    return None

"""How large the images of a dataset are: one square by one resize, a window cut without resampling, or the pixels as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from pipelines.manifest.chains import Strict

SMALLEST, LARGEST = 16, 4096  # px a side, of any image of a dataset
NATIVE = "native"
Side = Annotated[int, Field(ge=SMALLEST, le=LARGEST)]


class Crop(Strict):
    """A window of `crop` x `crop` px, cut from every picture, real or fake. Nothing is resampled.

    `at: centre` cuts the middle; `at: seed` puts the window anywhere, by the seed of the picture. An image that is made from a real one
    has that one's window.
    """

    crop: Side
    at: Literal["centre", "seed"] = "centre"


def _read(value: Any) -> Any:
    """One complaint in words, where pydantic would make one for each of the three forms."""
    if isinstance(value, Crop) or value == NATIVE:
        return value
    if isinstance(value, dict):
        try:
            return Crop.model_validate(value)
        except ValidationError as error:
            first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")  # a misspelt key before the missing one
            raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'size'}: {first['msg']}; write `size: {{crop: 256}}`") from None
    if isinstance(value, int) and not isinstance(value, bool) and SMALLEST <= value <= LARGEST:
        return value
    raise ValueError(f"a size is a whole number from {SMALLEST} to {LARGEST} px, `{{crop: 256}}` or `native`")


Size = Annotated[int | Crop | Literal["native"], BeforeValidator(_read)]


def as_data(size: Size, seed: int) -> Any:
    """What decides pixels of a size, for keys: a number is itself. `seed` is that of the manifest, from which windows are drawn."""
    if not isinstance(size, Crop):
        return size
    return {"crop": size.crop, "at": size.at, **({"seed": seed} if size.at == "seed" else {})}


def side_of(size: Size) -> int | None:
    """The side of every image in px; None where they differ."""
    return size.crop if isinstance(size, Crop) else None if size == NATIVE else int(size)


def said(size: Size) -> str:
    """A size in words: "256 px", "256 px (cut, not resampled)", "their own sizes"."""
    if isinstance(size, Crop):
        return f"{size.crop} px (cut, not resampled)"
    return "their own sizes" if size == NATIVE else f"{size} px"


def preparation(size: Size) -> str:
    """What was done to every picture, real or fake, to bring it to the size; a clause for a datasheet."""
    if isinstance(size, Crop):
        return f"A window of {size.crop} x {size.crop} px {'from the middle' if size.at == 'centre' else 'drawn by seed'}, not resampled"
    return "Pixels as they are, neither cut nor resampled" if size == NATIVE else f"Centre square, resized to {size} px"

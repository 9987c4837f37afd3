"""What callers hand over as a picture, as the one form that detectors work on: `uint8` RGB `[H, W, 3]`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foreign.pictures import decode_pil
from ntf_model.data.images import read_image
from ntf_model.errors import InputError

ACCEPTED = "Give uint8 or uint16 arrays [H, W] or [H, W, 1 to 4], floats in [0, 1] of such shapes, PIL pictures, bytes or paths"


def as_pictures(values: Any) -> list[np.ndarray]:
    """Each of `values` (a list, another iterable, or an array `[N, H, W, 3]`) as `as_picture` reads it.

    Raises InputError for a single picture or path in place of a list: its rows or letters would be taken for pictures.
    """
    is_array = isinstance(values, np.ndarray)
    single = isinstance(values, (str, bytes, Path, Image.Image)) or (is_array and values.ndim != 4)
    if single or not isinstance(values, Iterable):
        raise InputError("a detector takes a list of pictures, and this is a single one", "Write `detector([picture])`")
    return [as_picture(value, f"picture {index}") for index, value in enumerate(values)]


def as_picture(value: Any, name: str = "the picture") -> np.ndarray:
    """A picture as `uint8` RGB `[H, W, 3]`.

    Files, bytes and PIL pictures are read as `read_image` reads files. Arrays: `uint8`, `uint16` (the upper eight bits), or floats in
    [0, 1] (times 255, rounded); grey `[H, W]` or `[H, W, 1]`, grey with alpha, RGB or RGBA in the last axis; what is transparent shows
    white, as in files. Raises
    InputError, beginning with `name`, for anything else: other integers, floats outside [0, 1] or not finite, channels in front.
    """
    if isinstance(value, np.ndarray):
        return _as_rgb(value, name)
    if isinstance(value, (str, Path)):
        return read_image(Path(value))
    if isinstance(value, (bytes, bytearray)):
        return read_image(bytes(value), name)
    if isinstance(value, Image.Image):
        return decode_pil(value, name)
    raise InputError(f"{name} is no picture but {type(value).__name__}", ACCEPTED)


def _as_rgb(value: np.ndarray, name: str) -> np.ndarray:
    if value.ndim == 2:
        value = value[..., None]
    if value.ndim != 3 or value.shape[2] not in (1, 2, 3, 4) or 0 in value.shape:
        raise InputError(f"{name} is an array of shape {list(value.shape)}", ACCEPTED)
    if value.dtype == np.uint16:
        value = (value >> 8).astype(np.uint8)
    elif np.issubdtype(value.dtype, np.floating):
        if not (np.isfinite(value).all() and value.min() >= 0 and value.max() <= 1):
            raise InputError(f"{name} is an array of floats that are not all in [0, 1]", "Scale it to [0, 1], or convert it to uint8")
        value = np.rint(value.astype(np.float64) * 255).astype(np.uint8)
    elif value.dtype != np.uint8:
        raise InputError(f"{name} is an array of {value.dtype}", ACCEPTED)
    if value.shape[2] in (2, 4):
        return decode_pil(Image.fromarray(np.ascontiguousarray(value)), name)
    return np.ascontiguousarray(np.broadcast_to(value, (*value.shape[:2], 3)))

"""One picture, delivered: bytes in or pixels in, bytes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foreign.pictures import decode
from pipelines.delivery.steps import Carried, run
from pipelines.manifest.deliveries import Step


@dataclass(frozen=True)
class Delivered:
    """An encoded picture after its delivery: its `format` ("jpeg", "webp", "avif", "png"), `height` and `width`, and what was drawn for
    each step that was done."""

    data: bytes
    format: str
    height: int
    width: int
    steps: tuple[dict[str, Any], ...]


def deliver(picture: np.ndarray | bytes, steps: Iterable[Step], seed: int, name: str = "the picture") -> Delivered:
    """A picture (`uint8` RGB `[H, W, 3]`, or encoded bytes) after all steps. The same picture, steps and seed give the same bytes.

    Raises InputError that names `name` if the bytes are no picture.
    """
    start = Carried(picture, "", decode(picture, name)) if isinstance(picture, bytes) else Carried(pixels=picture)
    carried, facts = run(tuple(steps), start, seed)
    if not carried.format:  # never compressed by a step: its own bytes may have metadata, and any format
        carried = Carried(pixels=carried.pixels)
    data, form = carried.encoded()
    return Delivered(data, form, *carried.shape, tuple(facts))

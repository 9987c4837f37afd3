"""What a generator gives for one job, before it becomes a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from generators.base import Result
from pipelines.make import rejections


@dataclass(frozen=True)
class Output:
    """`picture` is `uint8` RGB `[H, W, 3]`, or None with the `reason` against it; `measures` go into the row.

    `mask` is bool `[H, W]`, true where the picture was reworked, where that is known. `cut_at` is where the picture begins in the real
    image behind it (top, left), in a dataset that resamples nothing.
    """

    picture: np.ndarray | None
    reason: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None
    cut_at: tuple[int, int] | None = None


def judged(result: Result) -> Iterator[Output]:
    """The images of a result, in order, with what was measured; a rejection for those that the generator or a check refuses."""
    for place, pixels in enumerate(result.images):
        reason = result.rejected.get(place) or rejections.reason_against(pixels)
        yield Output(None, reason) if reason else Output(pixels, None, {name: values[place] for name, values in result.columns.items()})

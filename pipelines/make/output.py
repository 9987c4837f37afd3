"""What a generator gives for one job, before it becomes a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from generators.base import Result
from pipelines.make import rejections


@dataclass(frozen=True)
class Output:
    """`picture` is `uint8` RGB `[H, W, 3]`, or None with the `reason` against it; `measures` go into the row.

    `mask` is bool `[H, W]`, true where the picture was reworked, where that is known. `cut_at` is where the picture begins in the real
    image behind it (top, left), in a dataset that resamples nothing. An `unchecked` picture may still be one to reject.
    """

    picture: np.ndarray | None
    reason: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None
    cut_at: tuple[int, int] | None = None
    unchecked: bool = False

    def checked(self) -> Output:
        """This output, or a rejection if its picture is unchecked and shows nothing."""
        reason = rejections.reason_against(self.picture) if self.unchecked and self.picture is not None else None
        return Output(None, reason) if reason else replace(self, unchecked=False)


def taken(result: Result) -> Iterator[Output]:
    """The images of a result, in order and unchecked, with what was measured; a rejection for those that the generator refuses."""
    for place, pixels in enumerate(result.images):
        reason = result.rejected.get(place)
        measures = {name: values[place] for name, values in result.columns.items()}
        yield Output(None, reason) if reason else Output(pixels, None, measures, unchecked=True)


def judged(result: Result) -> Iterator[Output]:
    """The images of a result, in order and checked."""
    return (output.checked() for output in taken(result))

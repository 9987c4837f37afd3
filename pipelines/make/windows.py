"""Where the windows of a dataset lie in its pictures: in reals, in what is made from them, and in what a step is given to work on.

Where nothing is resampled, what a generator makes of a real image keeps that image's place: it is given a window around the one that the
dataset takes, and of its output that one is cut. So a fake and the real that it was made from show the same part, pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from generators.seeding import derive_seed
from pipelines.make import rejections
from pipelines.make.framing import Frame, Unfit, frame_of
from pipelines.make.rows import Job
from pipelines.plan.plan import Plan
from pipelines.plan.reals import RealImage
from pipelines.store import Row

Open = Callable[[], np.ndarray]
Place = tuple[int, int]  # top and left
CUT_AT = "cut_at"  # a row's measure: where the picture begins in the real image that it was made from, [top, left] in pixels


@dataclass(frozen=True)
class Input:
    """What a step works on: what opens it (`uint8` RGB `[H, W, 3]`), and where it begins in the real image behind it, if that is known."""

    open: Open
    cut_at: Place | None = None


class Windows:
    """The windows of one plan."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._size = plan.manifest.size

    @property
    def resamples(self) -> bool:
        """Whether pictures are resized to the dataset's size."""
        return isinstance(self._size, int)

    def of_real(self, image: RealImage, shape: tuple[int, ...]) -> Frame:
        """Of a real image of that height and width. Raises Unfit."""
        return self._frame(shape, image.id)

    def of_fake(self, row: Row, shape: tuple[int, ...], cut_at: Place | None) -> Frame:
        """Of the picture of a fake, which begins at `cut_at` in the real image that its chain begins with. Raises Unfit."""
        target = self._plan.real_image(row.chain[0].get("target"))
        if target is None or self.resamples:
            return self._frame(shape, row.group)
        whole = target.shape
        frame = self._frame(whole, target.id)
        if cut_at is None:
            return self._frame(shape, target.id)
        moved = replace(frame, top=frame.top - cut_at[0], left=frame.left - cut_at[1])
        inside = moved.top >= 0 and moved.left >= 0 and moved.top + moved.height <= shape[0] and moved.left + moved.width <= shape[1]
        return moved if inside else self._frame(shape, target.id)

    def input(self, job: Job, side: int | None = None) -> Input:
        """What a job works on: the real image that was drawn for it, or the picture of the step before.

        Where the dataset resamples nothing, `side` asks for a square of so many pixels around the window that the dataset takes; else the
        whole picture comes, for the step to resize. Raises Unfit for a picture that is smaller.
        """
        drawn = job.drawn.get("target")
        if drawn is not None:
            opened: Open = drawn.load
        else:
            assert job.above is not None and job.above.pixels is not None
            opened = partial(np.asarray, job.above.pixels)
        if side is None or self.resamples:
            return Input(opened)
        base: Place | None
        if drawn is not None:
            shape: tuple[int, ...] = drawn.shape
            frame, base = self.of_real(drawn, shape), (0, 0)
        else:
            assert job.above is not None and job.above.pixels is not None
            shape, base = job.above.pixels.shape, self.cut_at(job.above.row)
            frame = self.of_fake(job.above.row, shape, base)
        if min(shape[:2]) < side:
            raise Unfit(rejections.TOO_SMALL)
        top, left = (
            min(max(0, start - (side - length) // 2), whole - side)
            for start, length, whole in ((frame.top, frame.height, shape[0]), (frame.left, frame.width, shape[1]))
        )
        at = None if base is None else (base[0] + top, base[1] + left)
        return Input(lambda: opened()[top : top + side, left : left + side], at)

    @staticmethod
    def cut_at(row: Row) -> Place | None:
        """Where a stored picture begins in the real image behind it, if that is known."""
        place = row.measures.get(CUT_AT)
        return (place[0], place[1]) if place else None

    def _frame(self, shape: tuple[int, ...], name: str) -> Frame:
        return frame_of(shape, self._size, derive_seed(self._plan.manifest.seed, name))

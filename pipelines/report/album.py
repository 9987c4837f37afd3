"""The pictures of a page: each is stored once, however often it is shown, and shown by its name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from pipelines.images import fit
from pipelines.report.sheets import LOSSLESS, data_uri

EXACT = 64  # px; a picture up to this side keeps every pixel as it is
QUALITY = 80  # of the WebP of larger ones: the page is for looking, the store has the originals


@dataclass(frozen=True)
class Picture:
    """A stored picture: the name that shows it, its side in pixels, and its data URI."""

    name: str
    side: int
    uri: str

    @property
    def is_small(self) -> bool:
        """Whether it is enlarged with its pixels left visible."""
        return self.side <= EXACT


class Album:
    """Pictures by content. The same pixels at the same side are one picture."""

    def __init__(self) -> None:
        self._pictures: dict[str, Picture] = {}

    def add(self, image: np.ndarray, side: int) -> Picture:
        """Stores a square `uint8` RGB image, at most `side` px wide: lossless up to `EXACT` px, lossy above."""
        fitted = np.ascontiguousarray(fit(image, min(side, *image.shape[:2])))
        key = hashlib.sha256(fitted.tobytes()).hexdigest()
        if key not in self._pictures:
            uri = data_uri(fitted, LOSSLESS if len(fitted) <= EXACT else QUALITY)
            self._pictures[key] = Picture(f"p{len(self._pictures)}", len(fitted), uri)
        return self._pictures[key]

    @property
    def pictures(self) -> list[Picture]:
        return list(self._pictures.values())

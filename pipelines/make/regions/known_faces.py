"""What a detector sees in real images, looked for once a build: one person's picture is the source or the target of many swaps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from generators.faces.detect import Detector, Face


class KnownFaces:
    """Faces of pictures by the sha256 of the picture. It may be asked from several threads: each picture is looked at once.

    What it keeps of a picture is its faces, about 300 bytes each, and no pixels.
    """

    def __init__(self, detector: Callable[[], Detector]):
        self._detector = detector
        self._faces: dict[str, Future[list[Face]]] = {}
        self._lock = threading.Lock()

    def of(self, picture: np.ndarray, sha256: str | None) -> list[Face]:
        """The faces of a picture (`uint8` RGB `[H, W, 3]`), the best first. Without a sha256 the picture is looked at in any case."""
        if sha256 is None:
            return self._detector().detect(picture)
        with self._lock:
            future = self._faces.get(sha256)
            mine = future is None
            if future is None:
                future = self._faces[sha256] = Future()
        if mine:
            try:
                future.set_result(self._detector().detect(picture))
            except BaseException as error:
                with self._lock:
                    del self._faces[sha256]  # another time it may succeed
                future.set_exception(error)
        return future.result()

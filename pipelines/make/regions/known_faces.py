"""What networks see in real images, looked for once a build: one person's picture is the source or the target of many swaps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from generators.faces.detect import Detector, Face
from generators.faces.identity import IdentityNetwork

MOST_VECTORS = 50_000  # that are kept of a network: 100 MB where a vector has 512 numbers


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


@dataclass(frozen=True)
class SeenFace:
    """A face as an identity network wants it (`uint8` `[S, S, 3]`), or the vector `[D]` that the network gave for it before. One that may
    be seen again has a name."""

    crop: np.ndarray | None = None
    vector: np.ndarray | None = None
    name: Hashable = None


class KnownIdentities:
    """Identity vectors of one network, by the names of faces. The oldest are forgotten where there are more than `most`.

    `seen` may be called from several threads, `vectors` from one.
    """

    def __init__(self, most: int = MOST_VECTORS):
        self._vectors: dict[Hashable, np.ndarray] = {}
        self._most = most

    def seen(self, name: Hashable, crop: Callable[[], np.ndarray]) -> SeenFace:
        """The face of that name with its vector, if it is known, and else with its crop. None is no name."""
        vector = None if name is None else self._vectors.get(name)
        return SeenFace(crop(), None, name) if vector is None else SeenFace(None, vector, name)

    def vectors(self, faces: Sequence[SeenFace], network: IdentityNetwork) -> np.ndarray:
        """The vectors of all faces, float32 `[N, D]`. What is not known goes through the network together, each name once."""
        names = [("", place) if face.name is None else face.name for place, face in enumerate(faces)]
        vectors = {name: self._vectors[name] for name in names if name in self._vectors}
        vectors |= {name: face.vector for name, face in zip(names, faces, strict=True) if face.vector is not None}
        asked = {name: face.crop for name, face in zip(names, faces, strict=True) if name not in vectors and face.crop is not None}
        if asked:
            vectors |= zip(asked, network.embed(np.stack(list(asked.values()))), strict=True)
        self._vectors |= {face.name: vectors[face.name] for face in faces if face.name is not None}
        while len(self._vectors) > self._most:
            del self._vectors[next(iter(self._vectors))]
        return np.stack([vectors[name] for name in names])

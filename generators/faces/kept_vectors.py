"""Identity vectors that are made once: a person's picture is the source of many swaps, and its vector takes a sixth of a swap's time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

import numpy as np
import torch

MOST = 20_000  # vectors that are kept: 40 MB where one has 512 floats


class KeptVectors:
    """The identity vectors of one network, by the pixels of the faces and the size of the batch in which the network saw them.

    A network rounds an image in one way in all batches of a size, whatever stands beside it and in whatever place, and in batches of
    another size perhaps in another. So what is known is what the network would give again, to the bit, and a batch with a face that is not
    known goes through it as a whole. The vectors that were made first are forgotten where there are more than `most`.
    """

    def __init__(self, most: int = MOST):
        self._most = most
        self._vectors: dict[Hashable, torch.Tensor] = {}

    def of(self, faces: np.ndarray, embed: Callable[[np.ndarray], torch.Tensor], precision: Hashable = None) -> torch.Tensor:
        """`embed(faces)`, `[N, D]` for `uint8` `[N, H, W, 3]`. `precision` names what else decides the vectors beside the pixels."""
        names = [
            (precision, len(faces), face.shape, hashlib.blake2b(np.ascontiguousarray(face).data, digest_size=16).digest()) for face in faces
        ]
        known = [self._vectors[name] for name in names if name in self._vectors]
        if len(known) == len(names):
            return torch.stack(known)
        vectors = embed(faces)
        self._vectors |= zip(names, vectors.clone(), strict=True)
        while len(self._vectors) > self._most:
            del self._vectors[next(iter(self._vectors))]
        return vectors

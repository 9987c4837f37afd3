"""Identity vectors that are made once: which batches go through the network, and what is forgotten."""

from __future__ import annotations

import numpy as np
import torch

from generators.faces.kept_vectors import KeptVectors


class Greys:
    """A network that tells the first value of a face and the size of its batch, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[list[int]] = []

    def __call__(self, faces: np.ndarray) -> torch.Tensor:
        self.shown.append(faces[:, 0, 0, 0].tolist())
        return torch.tensor([[grey, len(faces)] for grey in self.shown[-1]])


def batch(*greys: int) -> np.ndarray:
    return np.stack([np.full((4, 4, 3), grey, np.uint8) for grey in greys])


def test_a_batch_of_known_faces_is_not_shown_to_the_network_in_any_order() -> None:
    kept, network = KeptVectors(), Greys()
    kept.of(batch(1, 2), network)
    kept.of(batch(3, 3), network)
    assert kept.of(batch(2, 3), network).tolist() == [[2, 2], [3, 2]]
    assert kept.of(batch(1, 4), network).tolist() == [[1, 2], [4, 2]]
    assert network.shown == [[1, 2], [3, 3], [1, 4]]


def test_batches_of_other_sizes_faces_of_other_shapes_and_other_precisions_are_others() -> None:
    kept, network = KeptVectors(), Greys()
    kept.of(batch(1, 2), network, "float32")
    kept.of(batch(1), network, "float32")
    kept.of(batch(1, 2).reshape(2, 2, 8, 3), network, "float32")
    kept.of(batch(1, 2), network, "float16")
    assert network.shown == [[1, 2], [1], [1, 2], [1, 2]]


def test_what_the_network_gave_may_be_written_over() -> None:
    kept, network = KeptVectors(), Greys()
    kept.of(batch(1, 2), network).zero_()
    assert kept.of(batch(2, 1), network).tolist() == [[2, 2], [1, 2]]


def test_the_oldest_are_forgotten() -> None:
    kept, network = KeptVectors(most=2), Greys()
    for grey in (1, 2, 3, 3, 2, 1):
        assert kept.of(batch(grey), network).tolist() == [[grey, 1]]
    assert network.shown == [[1], [2], [3], [1]]

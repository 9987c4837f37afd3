"""Which pictures make a batch: as many fakes as reals, the fakes from every subset alike, the reals from every real source alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ntf_model.data import DetectionData
from ntf_model.errors import InputError


class Draw(NamedTuple):
    """One picture of a batch: its row, and the seed of everything random that is done to it."""

    row: int
    seed: int


@dataclass(frozen=True)
class BalancedBatches:
    """The batches of one epoch, as lists of `Draw`: a `batch_sampler` for a torch DataLoader.

    Everything follows from `seed` and `epoch`: the same batches come whatever the number of workers and processes, so a run can stop
    anywhere and go on. `batch_size` counts over all processes; process `rank` of `world_size` gets its consecutive part of each batch.
    `labels` restricts the draw to these classes (stage 1: reals alone). Groups smaller than their share repeat, each in a fresh order.
    `start` leaves out the first batches of the epoch.
    """

    data: DetectionData
    batch_size: int
    seed: int
    epoch: int
    labels: tuple[int, ...] = (0, 1)
    rank: int = 0
    world_size: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise InputError(f"a batch of {self.batch_size} cannot be shared by {self.world_size} processes", "Choose a multiple of it")
        for label in self.labels:
            if not np.any(self.data.labels == label):
                raise InputError(f"the training split has no {('real', 'fake')[label]} picture", "Each class needs some")

    @property
    def batches(self) -> int:
        """Batches in a whole epoch: every picture of these classes about once, rounded up to whole batches."""
        return -(-int(np.isin(self.data.labels, self.labels).sum()) // self.batch_size)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        rows = self.rows()
        seeds = np.random.default_rng([self.seed, self.epoch, 1]).integers(2**63, size=len(rows))
        share = self.batch_size // self.world_size
        for batch in range(self.start, self.batches):
            first = batch * self.batch_size + self.rank * share
            yield [Draw(int(rows[place]), int(seeds[place])) for place in range(first, first + share)]

    def rows(self) -> np.ndarray:
        """The rows of the whole epoch in order: int `[batches * batch_size]`, classes in turn, within a class its groups in turn."""
        rng = np.random.default_rng([self.seed, self.epoch, 0])
        count = self.batches * self.batch_size
        per_class = -(-count // len(self.labels))
        columns = [self._class_rows(label, per_class, rng) for label in self.labels]
        return np.stack(columns, axis=1).reshape(-1)[:count]

    def _class_rows(self, label: int, count: int, rng: np.random.Generator) -> np.ndarray:
        of_class = self.data.labels == label
        groups = [np.flatnonzero(of_class & (self.data.subsets == name)) for name in np.unique(self.data.subsets[of_class])]
        per_group = -(-count // len(groups))
        columns = [_cycle(rows, per_group, rng) for rows in groups]
        turns = rng.permuted(np.tile(np.arange(len(groups)), (per_group, 1)), axis=1)  # the order of the groups changes each round
        return np.stack(columns, axis=1)[np.arange(per_group)[:, None], turns].reshape(-1)[:count]


def _cycle(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of `rows`, each as often as the others (or once less), a fresh order each time round."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])[:count]

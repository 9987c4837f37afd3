"""Which pictures make a batch: as many fakes as reals, the fakes from every subset alike, each beside a real of its own source.

With `pairs` the real beside a fake is the very picture that the fake was made from, where that is known, and both are varied alike.

So a real source is seen as often as the fakes that are compared with it. Drawn from all real sources alike, faces would be fakes more often
than photographs are wherever more subsets are of faces, and a detector would learn the motif.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from typing import NamedTuple

import numpy as np

from ntf_model.data.data import FAKE, REAL, DetectionData
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

    With `pairs` a real and the fake after it are a pair: the real that the fake was made from, and one seed for both, so that pictures of
    one size are cropped and flipped alike. A fake whose real is not known stands beside a real of its source, as without `pairs`. Raises
    InputError if no fake has its real here, the labels are not both classes, or the part of a process is odd.
    """

    data: DetectionData
    batch_size: int
    seed: int
    epoch: int
    labels: tuple[int, ...] = (0, 1)
    rank: int = 0
    world_size: int = 1
    start: int = 0
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise InputError(f"a batch of {self.batch_size} cannot be shared by {self.world_size} processes", "Choose a multiple of it")
        for label in self.labels:
            if not np.any(self.data.labels == label):
                raise InputError(f"the training split has no {('real', 'fake')[label]} picture", "Each class needs some")
        if self.pairs:
            self._check_pairs()

    @property
    def batches(self) -> int:
        """Batches in a whole epoch: every picture of these classes about once, rounded up to whole batches."""
        return -(-int(np.isin(self.data.labels, self.labels).sum()) // self.batch_size)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        rows = self.rows()
        seeds = np.random.default_rng([self.seed, self.epoch, 1]).integers(2**63, size=len(rows))
        if self.pairs:
            seeds[1::2] = seeds[::2]
        share = self.batch_size // self.world_size
        for batch in range(self.start, self.batches):
            first = batch * self.batch_size + self.rank * share
            yield [Draw(int(rows[place]), int(seeds[place])) for place in range(first, first + share)]

    def rows(self) -> np.ndarray:
        """The rows of the whole epoch in order: int `[batches * batch_size]`, the classes in turn."""
        rng = np.random.default_rng([self.seed, self.epoch, 0])
        count = self.batches * self.batch_size
        per_class = -(-count // len(self.labels))
        if len(self.labels) == 1:
            return self._draw(self.labels[0], self._turns(self.labels[0], per_class, rng), rng)[:count]
        fakes = self._turns(FAKE, per_class, rng)
        groups = {REAL: self._sources_of(fakes), FAKE: fakes}
        drawn = {label: self._draw(label, groups[label], rng) for label in self.labels}
        if self.pairs:
            originals = self._originals[drawn[FAKE]]
            drawn[REAL] = np.where(originals >= 0, originals, drawn[REAL])
        return np.stack([drawn[label] for label in self.labels], axis=1).reshape(-1)[:count]

    @cached_property
    def _originals(self) -> np.ndarray:
        return self.data.original_rows()

    def _check_pairs(self) -> None:
        if sorted(self.labels) != [REAL, FAKE]:
            raise InputError("`pairs` has no effect on a detector that learns from one class alone", "Leave it out")
        if self.batch_size // self.world_size % 2:
            raise InputError(f"a batch of {self.batch_size} over {self.world_size} processes cuts a pair in two", "Choose an even part")
        if not np.any(self._originals >= 0):
            raise InputError(
                "no fake of the training split is known to be made from a real picture of it",
                "Leave `pairs` out, or build fakes from reals; in a folder a fake has the name of its real picture",
            )

    def _turns(self, label: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` groups of a class by name, each as often as the others (or once less), in another order each time round."""
        names = self._groups(label)
        return np.concatenate([rng.permutation(names) for _ in range(-(-count // len(names)))])[:count]

    def _sources_of(self, fakes: np.ndarray) -> np.ndarray:
        """For each fake's subset a real source of it that this split has pictures of, one after the other where there are several."""
        here = self._groups(REAL).tolist()
        sources = {
            name: cycle([source for source in self.data.sources_of(name) if source in here] or here) for name in np.unique(fakes).tolist()
        }
        return np.array([next(sources[name]) for name in fakes.tolist()])

    def _draw(self, label: int, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A row of each of `groups`."""
        rows = np.empty(len(groups), np.int64)
        for name in np.unique(groups):
            places = np.flatnonzero(groups == name)
            rows[places] = _cycle(np.flatnonzero((self.data.labels == label) & (self.data.subsets == name)), len(places), rng)
        return rows

    def _groups(self, label: int) -> np.ndarray:
        return np.unique(self.data.subsets[self.data.labels == label])


def _cycle(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of `rows`, each as often as the others (or once less), a fresh order each time round."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])[:count]

"""How many images a generator makes at once on a GPU: as many as fit and pay, found on the first batches and remembered.

On a CPU nothing grows: a batch there costs the same an image at any size, and rounding follows its size. On a GPU a batch doubles while
the next one would fit into free memory and the last doubling made images faster by a tenth or more. What was found is remembered by the one
who loads the generator, for generator, checkpoint, size, precision and card.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from generators.memory import free_memory

LARGEST = 256  # images; no generator here is faster above
PAYS = 1.1  # how many times as many images a second a doubling must give
SHARE = 0.8  # of the memory that is free: fragments and other programs need the rest
TURNS = 2  # batches of a size: the first chooses its kernels, the second is timed
SHORT = 4  # batches in a row that are not full, after which nobody is taken to ask for so many: faces come in chunks


class Meter(Protocol):
    """What is measured of a device."""

    def begin(self) -> None:
        """Forgets the peak and starts the clock."""

    def end(self) -> tuple[float, int]:
        """Seconds since `begin`, and the bytes that were in use at most beyond those of `begin`."""

    def free(self) -> int:
        """Bytes that a batch could have beyond what is in use now."""


class CudaMeter:
    """The meter of a GPU."""

    def __init__(self, device: torch.device):
        self._device = device

    def begin(self) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._held, self._started = torch.cuda.memory_allocated(self._device), time.perf_counter()

    def end(self) -> tuple[float, int]:
        torch.cuda.synchronize(self._device)
        return time.perf_counter() - self._started, torch.cuda.max_memory_allocated(self._device) - self._held

    def free(self) -> int:
        return free_memory(self._device)


@dataclass
class Growth:
    """The size of a generator's batches, growing until it is settled. `remembered` holds settled sizes by `key`."""

    meter: Meter
    remembered: MutableMapping[str, int]
    key: str
    size: int
    largest: int = LARGEST
    settled: bool = field(init=False)
    _rate: float = field(default=0.0, init=False)  # images a second at half the size
    _turn: int = field(default=0, init=False)
    _short: int = field(default=0, init=False)  # batches in a row that were not full

    def __post_init__(self) -> None:
        self.settled = self.key in self.remembered
        self.size = self.remembered.get(self.key, self.size)

    def begin(self) -> None:
        """Before a batch."""
        if not self.settled:
            self.meter.begin()

    def end(self, images: int) -> None:
        """After a batch of `images`. One that is not full tells nothing; several in a row tell that the size before was large enough."""
        if self.settled:
            return
        if images != self.size:
            self._short += 1
            if self._short == SHORT and self._rate:
                self._settle(self.size // 2)
            return
        self._short = 0
        seconds, used = self.meter.end()
        self._turn += 1
        if self._turn < TURNS:
            return
        rate = images / max(seconds, 1e-9)
        if self._rate and rate < PAYS * self._rate:
            self._settle(self.size // 2)  # the doubling did not pay
        elif 2 * self.size > self.largest or 2 * used > SHARE * self.meter.free():
            self._settle(self.size)
        else:
            self.size, self._rate, self._turn = 2 * self.size, rate, 0

    def halved(self, size: int) -> None:
        """After memory ran out: the smaller size is what is remembered."""
        self._settle(size)

    def _settle(self, size: int) -> None:
        self.size, self.settled = size, True
        self.remembered[self.key] = size

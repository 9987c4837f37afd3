"""Learning rates over a training: by epoch, down on a plateau, or a warm-up and then a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Schedule(Protocol):
    """The learning rate of an epoch and of an optimiser step, both counted from 0 over the whole training.

    None ends the training. `record` is told the entry of each epoch that has ended, in order: its losses and what was measured.
    """

    def rate(self, epoch: int, step: int) -> float | None: ...

    def record(self, entry: Mapping[str, Any]) -> None: ...


class ByEpoch:
    """A rate that follows from the epoch alone."""

    def __init__(self, rate_of: Callable[[int], float]):
        self.rate_of = rate_of

    def rate(self, epoch: int, step: int = 0) -> float | None:
        return self.rate_of(epoch)

    def record(self, entry: Mapping[str, Any]) -> None:
        pass


class Plateau:
    """Wang et al. 2020, section 3.2: a tenth of the rate when the accuracy on validation has not risen by 0.001 (after the first drop
    0.002) for `patience` epochs, and the end when the rate falls under `lowest`."""

    def __init__(self, start: float, patience: int = 5, lowest: float = 1e-6):
        self.current, self.patience, self.lowest = start, patience, lowest
        self.best, self.waited, self.needed = -math.inf, 0, 0.001

    def rate(self, epoch: int, step: int = 0) -> float | None:
        return self.current if self.current >= self.lowest else None

    def record(self, entry: Mapping[str, Any]) -> None:
        """Looks at the entry's `validation_accuracy`."""
        accuracy = entry["validation_accuracy"]
        if accuracy >= self.best + self.needed:
            self.best, self.waited = accuracy, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.current, self.needed, self.waited = self.current / 10, 0.002, 0
            self.best = -math.inf


class WarmupCosine:
    """A linear warm-up over the share `warmup` of `steps`, then a cosine from `start` to `final` x `start`."""

    def __init__(self, start: float, steps: int, warmup: float = 0.0, final: float = 0.0):
        self.start, self.steps, self.warm, self.final = start, steps, int(warmup * steps), final

    def rate(self, epoch: int, step: int) -> float | None:
        if step < self.warm:
            factor = (step + 1) / (self.warm + 1)
        else:
            cosine = (1 + math.cos(math.pi * (step - self.warm) / max(self.steps - self.warm, 1))) / 2
            factor = self.final + (1 - self.final) * cosine
        return self.start * factor

    def record(self, entry: Mapping[str, Any]) -> None:
        pass

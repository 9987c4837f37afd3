"""Which worker makes which shard next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from pipelines.plan.shards import Shard

Model = tuple[str, str]


class Schedule:
    """Hands shards to several workers, from several threads. Inputs come first, and a worker stays with its model while that has work.

    A worker that must change takes a model that no other worker uses. If there is none, it takes the one with the most shards left.
    """

    def __init__(self, shards: Iterable[Shard]):
        self._changed = threading.Condition()
        self._ready: dict[Model, deque[Shard]] = {}
        self._after: dict[str, list[Shard]] = {}
        self._lacking: dict[str, int] = {}
        self._model_of: dict[int, Model] = {}
        self._stopped = False
        shards = list(shards)
        self._open = {shard.key for shard in shards}
        for shard in shards:
            inputs = [key for key in shard.inputs if key in self._open]
            self._lacking[shard.key] = len(inputs)
            for key in inputs:
                self._after.setdefault(key, []).append(shard)
            if not inputs:
                self._add(shard)

    def take(self, worker: int) -> Shard | None:
        """The next shard for the worker of that number; None at the end. Waits while all that are left need a shard that is being made."""
        with self._changed:
            while not self._stopped and self._open:
                model = self._choose(worker)
                if model is not None:
                    self._model_of[worker] = model
                    return self._ready[model].popleft()
                self._changed.wait()
            return None

    def done(self, shard: Shard) -> None:
        """Says that a shard is written, or has failed for good, so that the shards that work on it can be taken."""
        with self._changed:
            self._open.discard(shard.key)
            for dependent in self._after.pop(shard.key, []):
                self._lacking[dependent.key] -= 1
                if not self._lacking[dependent.key]:
                    self._add(dependent)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hands out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _add(self, shard: Shard) -> None:
        self._ready.setdefault((shard.generator, shard.checkpoint), deque()).append(shard)

    def _choose(self, worker: int) -> Model | None:
        current = self._model_of.get(worker)
        if current is not None and self._ready.get(current):
            return current
        filled = [model for model, queue in self._ready.items() if queue]
        others = {model for other, model in self._model_of.items() if other != worker}
        return next(
            (model for model in filled if model not in others), max(filled, key=lambda model: len(self._ready[model]), default=None)
        )

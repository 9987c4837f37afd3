"""CPU time by stage, in every thread: what a call takes itself, without the watched calls inside it."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stages:
    """Seconds of CPU by stage, those of all threads together, and how often each stage was entered."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._inside = threading.local()

    @contextmanager
    def watch(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """Times calls for the length of the block. A place is an owner (module, class or object), the attribute's name, and its stage."""
        before = [(owner, name, owner.__dict__[name]) for owner, name, _ in places]
        for owner, name, stage in places:
            setattr(owner, name, self._timed(owner.__dict__[name], stage))
        try:
            yield
        finally:
            for owner, name, plain in before:
                setattr(owner, name, plain)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block, as a stage."""
        stack = self._inside.__dict__.setdefault("stack", [])
        stack.append(0.0)
        started = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - started
            within = stack.pop()
            if stack:
                stack[-1] += spent
            with self._lock:
                self.seconds[name] += spent - within
                self.calls[name] += 1

    def _timed(self, plain: Any, stage: str) -> Any:
        @functools.wraps(plain)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return plain(*args, **kwargs)

        return timed

"""Leases on names, for processes on any machines that see one store: who holds a name works on it, and others leave it alone.

A lease is a small file, `NAME.GENERATION.json`, that only one process can create: by a hard link in a folder, and by a conditional write
on an object storage. Its holder writes it again every `BEAT` seconds. One that nobody has written for `EXPIRY` seconds is taken over by
creating the next generation, and of several generations the highest holds. A lease saves work, and nothing relies on it: what two
processes made at once is still committed once (`Store.commit`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from generators.files import is_running
from pipelines.place import Place

BEAT = 5.0
EXPIRY = 30.0  # seconds without a beat, by the clock of who waits; a holder that is busy for longer only makes others do its work again


@dataclass(frozen=True)
class Held:
    """A lease of somebody: its generation, when its file was last written, and by whom."""

    generation: int
    beat: tuple[Any, int]
    holder: dict[str, Any]

    def __str__(self) -> str:
        return f"process {self.holder.get('pid', '?')} on {self.holder.get('host', 'another machine')}"


class Leases:
    """The leases below `place`, as one process sees them. May be used from several threads. Close it, or use it as a context."""

    def __init__(self, place: Place):
        self._place = place
        self._holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self._mine: dict[str, int] = {}
        self._seen: dict[tuple[str, int], tuple[tuple[Any, int], float]] = {}
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._beating: threading.Thread | None = None
        self._beats = 0

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def claim(self, names: Iterable[str], count: int = 1) -> list[str]:
        """Takes up to `count` of `names`, in their order, that nobody holds, and gives those that it got."""
        taken: list[str] = []
        generations = self._generations()
        for name in names:
            if len(taken) == count:
                break
            top = max(generations.get(name, {0: None}))
            if name in self._mine or (top and self._is_alive(name, top, generations[name][top])):
                continue
            if not self._place.create(_file(name, top + 1), self._content()):
                continue
            with self._lock:
                self._mine[name] = top + 1
            taken.append(name)
        if taken and self._beating is None:
            self._beating = threading.Thread(target=self._beat, name="leases", daemon=True)
            self._beating.start()
        return taken

    def release(self, names: Iterable[str]) -> None:
        """Gives names back that this process holds."""
        generations = self._generations()
        for name in names:
            with self._lock:
                mine = self._mine.pop(name, 0)
            for generation in sorted(generations.get(name, {})):
                if generation <= mine:
                    with suppress(OSError):
                        self._place.uncreate(_file(name, generation))

    def held(self) -> dict[str, Held]:
        """The leases of others that are alive, by name."""
        alive = {}
        for name, files in self._generations().items():
            top = max(files)
            if name not in self._mine and self._is_alive(name, top, files[top]):
                alive[name] = Held(top, files[top], self._known.get((name, top), {}))
        return alive

    def close(self) -> None:
        """Gives everything back."""
        self._ending.set()
        if self._beating is not None:
            self._beating.join()
        if self._mine:
            self.release(list(self._mine))

    def _generations(self) -> dict[str, dict[int, tuple[Any, int]]]:
        """For each name its generations, each with when its file was last written and its size."""
        generations: dict[str, dict[int, tuple[Any, int]]] = {}
        for file, state in self._place.states().items():
            name, _, number = file.removesuffix(".json").rpartition(".")
            if file.endswith(".json") and name and not name.startswith(".") and number.isascii() and number.isdigit():
                generations.setdefault(name, {})[int(number)] = state
        return generations

    def _is_alive(self, name: str, generation: int, state: tuple[Any, int]) -> bool:
        """Whether a lease was written within `EXPIRY`. The clocks of two machines are not compared: it counts from when the state was first
        seen here. A holder on this machine that has ended is seen at once."""
        now, place = time.monotonic(), (name, generation)
        before, since = self._seen.get(place, (None, now))
        if before != state:
            since = now
        self._seen[place] = (state, since)
        if place not in self._known:
            with suppress(ValueError, TypeError, OSError):
                self._known[place] = dict(json.loads(self._place.read(_file(name, generation)) or b"{}"))
        holder = self._known.get(place, {})
        if holder.get("host") == self._holder["host"] and type(holder.get("pid")) is int and not is_running(holder["pid"]):
            return False
        return now - since < EXPIRY

    def _beat(self) -> None:
        while not self._ending.wait(BEAT):
            with suppress(OSError):  # a network that is away for a while: the next beat may come through
                generations = self._generations()
                with self._lock:
                    mine = dict(self._mine)
                for name, generation in mine.items():
                    if max(generations.get(name, {0: None})) > generation:
                        continue  # somebody took it over
                    with self._lock:  # against a release at the same time, which would leave the file
                        if name in self._mine:
                            self._place.write(_file(name, generation), self._content())

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._holder, "beats": self._beats}).encode()


def _file(name: str, generation: int) -> str:
    return f"{name}.{generation}.json"

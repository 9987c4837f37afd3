"""What a reader must not do while it reads: run something, touch other files, take over five seconds or one gigabyte."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 5.0  # of CPU time for one input
MEMORY = 10**9  # bytes that one input may add
SMALL = 2**20  # both hold for inputs up to this length
ROOM = 3 * 2**30  # bytes of address space that a child may add
RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.connect"}
RUNS |= {"ctypes.dlopen", "code.__new__"}
WRITES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}


class Hang(BaseException):
    """An input took too much CPU time. No `except Exception` of a reader holds it up."""


class Amplified(BaseException):
    """An input took too much memory."""


class Executed(BaseException):
    """A reader ran something, or touched a file that it was not given."""


class Watch:
    """Begins with `limit`, once in a process; then `start` and `stop` around each input."""

    def __init__(self, home: Path):
        self.home, self.armed, self.events = str(home), False, list[str]()
        self.began, self.peak = 0.0, 0

    def limit(self) -> None:
        """Bounds this process and listens to what it does; both last until it ends."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, _too_long)
        sys.addaudithook(self._listen)

    def start(self) -> None:
        self.events.clear()
        self.peak, self.began, self.armed = _peak(), time.process_time(), True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def stop(self, length: int) -> None:
        """Ends one input of `length` bytes. Raises Executed, Hang or Amplified for what its reading has done."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.armed = False
        seconds, grown = time.process_time() - self.began, _peak() - self.peak
        if self.events:
            raise Executed("; ".join(self.events[:3]))
        if length < SMALL and seconds > SECONDS:
            raise Hang(f"{seconds:.1f} s")
        if length < SMALL and grown > MEMORY:
            raise Amplified(f"{grown:,} bytes")

    def _listen(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in RUNS:
            self.events.append(f"{event} {given[:2]!r}"[:200])
        elif event in WRITES or (event == "open" and _writes(given)):
            name = _place(given[:1] if event == "open" else given, self.home)
            if not name.startswith((self.home, os.devnull)):
                self.events.append(f"{event} {name}"[:200])


def _place(given: tuple[Any, ...], otherwise: str) -> str:
    """The path of an event, also of one that is relative to an open folder; `otherwise` where it has none."""
    if not isinstance(given[0], (str, bytes, os.PathLike)):
        return otherwise
    name = os.fsdecode(given[0])
    if len(given) > 1 and isinstance(given[-1], int) and given[-1] > 2 and not os.path.isabs(name):
        name = os.path.join(os.readlink(f"/proc/self/fd/{given[-1]}"), name)
    return os.path.abspath(name)


def _writes(given: tuple[Any, ...]) -> bool:
    return bool(set(given[1] or "") & set("wax+") or (given[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _too_long(number: int, frame: FrameType | None) -> None:
    raise Hang(f"over {SECONDS:.0f} s")

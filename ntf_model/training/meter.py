"""How long something took and how much memory it had."""

from __future__ import annotations

import threading
import time

import psutil
import torch

INTERVAL = 0.05  # seconds between looks at the memory


class Meter:
    """A context. Afterwards: `seconds`, and `peak_memory`, in bytes: of what the GPU had allocated, or without a GPU of this process.

    `device` is the one that is worked on; None is the first GPU if there is one."""

    seconds = 0.0
    peak_memory = 0

    def __init__(self, device: str | torch.device | None = None):
        wanted = torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._gpu = wanted if wanted.type == "cuda" else None

    def __enter__(self) -> Meter:
        self._began, self._done = time.perf_counter(), threading.Event()
        if self._gpu is not None:
            torch.cuda.reset_peak_memory_stats(self._gpu)
        else:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._gpu is not None:
            torch.cuda.synchronize(self._gpu)  # what it was given is done
        self.seconds = time.perf_counter() - self._began
        if self._gpu is not None:
            self.peak_memory = torch.cuda.max_memory_allocated(self._gpu)
        else:
            self._done.set()
            self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.peak_memory = max(self.peak_memory, process.memory_info().rss)
            if self._done.wait(INTERVAL):
                return

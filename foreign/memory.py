"""Memory that libraries keep for later, and how it is given back."""

from __future__ import annotations

import ctypes
import gc
import sys


def release() -> None:
    """Gives back the memory of what nobody holds any more, on the CPU and on a GPU. Networks and their optimisers refer to themselves in
    circles, so these are collected first. Called after an exception, it must be gone: its frames hold tensors.
    """
    gc.collect()
    trim()
    torch = sys.modules.get("torch")  # not imported here: a process that did not import it has nothing on a GPU
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim() -> None:
    """Gives the machine what was freed on the CPU: glibc keeps it for later. Other C libraries have no such call; then nothing happens."""
    try:
        call = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    call(0)

"""The memory that the C library keeps for later."""

from __future__ import annotations

import ctypes


def trim() -> None:
    """Gives the machine what was freed on the CPU: glibc keeps it for later. Other C libraries have no such call; then nothing happens."""
    try:
        call = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    call(0)

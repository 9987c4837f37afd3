"""Telling that a device, or this machine, has no memory left, whichever library says so, and that a device is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from generators.errors import InputError

CGROUP = Path("/sys/fs/cgroup")
OWN_SHARE = 0.5  # of what a machine has for it that a process takes on a CPU: other programs live there, and files are cached there
# What a RuntimeError says where memory ran out. Only CUDA has an exception of its own for it.
SIGNS = (
    "can't allocate memory",  # PyTorch's CPU allocator
    "not enough memory",  # the same on Windows
    "out of memory",  # MPS, and CUDA's own libraries
    "alloc_failed",  # cuBLAS and cuDNN
    "was unable to find an engine",  # cuDNN, each of whose kernels found no room for its workspace
    "could not create a memory object",  # oneDNN
    "failed to allocate memory",  # ONNX Runtime
    "bad_alloc",  # C++
)


class OutOfMemory(InputError):
    """Not even one image at a time fits in memory. Another program may hold it, so that trying again can help."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemory)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def is_device_lost(error: BaseException) -> bool:
    """Whether a GPU has failed in a way that this process cannot mend: after an illegal access or a failed assertion on it, every call to
    CUDA fails until the process ends."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def free_memory(device: str | torch.device) -> int:
    """Bytes that `device` can still give. On a GPU, what PyTorch keeps of earlier batches is among them: it is given out again first. On a
    CPU it is what the machine has available, and no more than this container may take."""
    if torch.device(device).type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    free = _read_number(Path("/proc/meminfo"), r"MemAvailable:\s+(\d+) kB", 1024)
    if free is None:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # a system that does not say
    limit = _read_number(CGROUP / "memory.max", r"(\d+)")
    used = _read_number(CGROUP / "memory.current", r"(\d+)")
    reclaimable = _read_number(CGROUP / "memory.stat", r"inactive_file (\d+)") or 0
    return free if limit is None or used is None else max(0, min(free, limit - used + reclaimable))


def own_memory() -> int:
    """Bytes of the machine's memory that this process holds, mapped files left out; 0 on a system that does not say."""
    return _read_number(Path("/proc/self/status"), r"RssAnon:\s+(\d+) kB", 1024) or 0


def batch_memory(device: str | torch.device) -> int:
    """Bytes that a batch may take. A GPU gives all that is free. On a CPU the whole process stays within `OWN_SHARE` of what it holds and
    what is free together, so that what it holds already, such as other networks, counts."""
    free = free_memory(device)
    if torch.device(device).type == "cuda":
        return free
    own = own_memory()
    return max(0, int(OWN_SHARE * (free + own)) - own)


def _read_number(file: Path, pattern: str, unit: int = 1) -> int | None:
    try:
        match = re.search(pattern, file.read_text())
    except OSError:
        return None
    return int(match[1]) * unit if match else None

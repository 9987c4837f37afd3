"""Telling that a device, or this machine, has no memory left, whichever library says so."""

from __future__ import annotations

import gc

import torch

from generators.errors import InputError

# What a RuntimeError says where memory ran out. Only CUDA has an exception of its own for it.
SIGNS = (
    "can't allocate memory",  # PyTorch's CPU allocator
    "not enough memory",  # the same on Windows
    "out of memory",  # MPS, and CUDA's own libraries
    "alloc_failed",  # cuBLAS and cuDNN
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


def release_memory() -> None:
    """Gives back what PyTorch keeps for later. To be called once the exception is gone, whose frames hold tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

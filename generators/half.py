"""Half precision: seeing that an image became not-a-number, and making it again with the same weights in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

from generators.transfer import Fetched, fetch

_watched: ContextVar[list[Fetched] | None] = ContextVar("watched", default=None)


@contextmanager
def watching(wanted: bool = True) -> Iterator[list[Fetched]]:
    """For the length of the block, what `note` is told: bool arrays, true for each image that has a value that is not finite. Nothing if
    nobody wants it."""
    seen: list[Fetched] = []
    token = _watched.set(seen if wanted else None)
    try:
        yield seen
    finally:
        _watched.reset(token)


@contextmanager
def reordered(rows: Sequence[int]) -> Iterator[None]:
    """For the length of the block, images are made, and noted, in the order of `rows`: the first is image `rows[0]` of the batch."""
    wanted = _watched.get() is not None
    with watching(wanted) as seen:
        yield
    if wanted and seen:
        flags = np.zeros(len(rows), bool)
        flags[list(rows)] = np.isin(np.arange(len(rows)), not_finite([part.array() for part in seen], len(rows)))
        _watched.get().append(Fetched(torch.from_numpy(flags)))  # type: ignore[union-attr]


def note(pixels: torch.Tensor) -> None:
    """Notes which of the images `[N, ...]` are not finite, if anybody watches."""
    seen = _watched.get()
    if seen is not None:
        seen.append(fetch((~torch.isfinite(pixels)).flatten(1).any(1)))


def not_finite(seen: list[np.ndarray], images: int) -> list[int]:
    """The places of the images, of `images`, of which something was not finite. Where a method makes several candidates of an image, all of
    one image follow each other; where what was seen cannot be told apart, all of them."""
    flags = np.concatenate(seen) if seen else np.zeros(images, bool)
    if not flags.any():
        return []
    if len(flags) % images:
        return list(range(images))
    return np.flatnonzero(flags.reshape(images, -1).any(1)).tolist()


@contextmanager
def in_float32(owner: Any) -> Iterator[None]:
    """For the length of the block, all floating-point weights of a generator's modules, and its `dtype`, are float32.

    Afterwards each weight has the precision and the values that it had: float32 holds every value of half precision.
    """
    modules = list(_modules(owner))
    tensors = {id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    halves = [tensor for tensor in tensors.values() if tensor.dtype in (torch.float16, torch.bfloat16)]
    before = [tensor.data for tensor in halves]
    dtype = getattr(owner, "dtype", None)
    try:
        for tensor in halves:
            tensor.data = tensor.data.float()
        if dtype is not None:
            owner.dtype = torch.float32
        yield
    finally:
        for tensor, data in zip(halves, before, strict=True):
            tensor.data = data
        if dtype is not None:
            owner.dtype = dtype


def _modules(owner: Any) -> Iterator[torch.nn.Module]:
    """The modules that a generator holds: itself, in a pipeline of diffusers, or in an object of its own."""
    for value in vars(owner).values():
        if isinstance(value, torch.nn.Module):
            yield value
        elif isinstance(components := getattr(value, "components", None), Mapping):
            yield from (part for part in components.values() if isinstance(part, torch.nn.Module))
        elif hasattr(value, "networks") and hasattr(value, "__dict__"):
            yield from _modules(value)

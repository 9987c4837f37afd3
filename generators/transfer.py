"""Between the host and a GPU without waiting: numbers go there through pinned memory, and pictures come back while the next batch runs.

A copy from or to ordinary memory makes the host wait until the GPU has done all that it was given before. So nothing of a step may be such
a copy, and nothing of a batch but its last one: the pixels, which are waited for when somebody takes them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch


class Fetched:
    """An array that comes from a device. `arrived` is an event of that device, which has happened once all of it is in `host`."""

    def __init__(self, host: torch.Tensor, arrived: Any = None):
        self._host = host
        self._arrived = arrived

    @property
    def is_here(self) -> bool:
        """Whether it was waited for already, or there is nothing to wait for."""
        return self._arrived is None

    def array(self) -> np.ndarray:
        """The array; waits for it."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
        return self._host.numpy()


def crosses(device: str | torch.device) -> bool:
    """Whether a copy between the host and `device` can go on beside what the device does."""
    return torch.device(device).type == "cuda"


def fetch(tensor: torch.Tensor) -> Fetched:
    """Begins to bring `tensor` to the host, in one copy. Where copies do not go on beside other work, it is there at once."""
    return Fetched(*_begin_copy(tensor)) if crosses(tensor.device) else Fetched(tensor.cpu())


def send(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """The host's `tensor` on `device`, where what is done next finds it; the host does not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if crosses(device) else tensor.to(device)


@lru_cache(maxsize=256)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Numbers (a tuple, or a tuple of tuples) as a tensor on `device`, brought there once. It is not to be written to."""
    with torch.inference_mode(False):  # it may be kept for a gradient later
        return send(torch.tensor(values, dtype=dtype), device)


def _begin_copy(tensor: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """A pinned tensor, and the event that all of `tensor` is in it. A stream of its own copies, as soon as `tensor` is computed."""
    host, stream = _pinned(tensor), _stream_of_copies(tensor.device)
    stream.wait_stream(torch.cuda.current_stream(tensor.device))
    with torch.cuda.stream(stream):
        host.copy_(tensor, non_blocking=True)
        arrived = stream.record_event()
    tensor.record_stream(stream)  # its memory is not given to others before it is copied
    return host, arrived


def _pinned(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


@lru_cache
def _stream_of_copies(device: torch.device) -> Any:
    return torch.cuda.Stream(device)

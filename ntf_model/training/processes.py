"""Training on one device or, under `accelerate launch`, on several at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

DEVICE = "ACCELERATE_TORCH_DEVICE"
LAUNCHED = "LOCAL_RANK"  # set by a launcher, which gives each process its own GPU


def make_accelerator(mixed_precision: str, device: str | torch.device | None = None) -> Accelerator:
    """The accelerator of this process: the launcher's if there is one, otherwise `device` alone, of several GPUs that very one."""
    cpu = device is not None and torch.device(device).type == "cpu"
    numbered = str(device) if device is not None and torch.device(device).index is not None and LAUNCHED not in os.environ else None
    shared = AcceleratorState._shared_state  # one for the whole process, and its precision and its device cannot be changed
    if shared and shared.get("num_processes", 1) == 1:
        wanted = (mixed_precision, cpu, torch.device(numbered) if numbered else shared.get("device"))
        if (shared.get("_mixed_precision"), shared.get("_cpu"), shared.get("device")) != wanted:
            AcceleratorState._reset_state(reset_partial_state=True)
    with _stated(numbered):
        return Accelerator(cpu=cpu, mixed_precision=mixed_precision)


@contextmanager
def _stated(device: str | None) -> Iterator[None]:
    """Tells accelerate the device, which takes its number from the environment alone and else is the first GPU."""
    if device is None or DEVICE in os.environ:  # a user's own choice stands
        yield
        return
    os.environ[DEVICE] = device
    try:
        yield
    finally:
        del os.environ[DEVICE]


@contextmanager
def own_random_numbers(accelerator: Accelerator, seed: int) -> Iterator[None]:
    """Inside, torch's random numbers follow from `seed`; afterwards the caller's go on as if nothing had happened."""
    with torch.random.fork_rng(devices=[accelerator.device] if accelerator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def gather_rows(accelerator: Accelerator, rows: torch.Tensor) -> torch.Tensor:
    """The rows `[n, ...]` of every process, in order of their ranks; gradients flow into this process's own."""
    if accelerator.num_processes == 1:
        return rows
    parts = list(accelerator.gather(rows.detach()).split(len(rows)))
    parts[accelerator.process_index] = rows
    return torch.cat(parts)

"""Training on one device or, under `accelerate launch`, on several at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def make_accelerator(mixed_precision: str, device: str | torch.device | None = None) -> Accelerator:
    """The accelerator of this process: the launcher's if there is one, otherwise `device` alone."""
    cpu = device is not None and torch.device(device).type == "cpu"
    shared = AcceleratorState._shared_state  # one for the whole process, and its precision cannot be changed
    if shared and shared.get("num_processes", 1) == 1 and (shared.get("_mixed_precision") != mixed_precision or shared.get("_cpu") != cpu):
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision)


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

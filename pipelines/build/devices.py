"""Which devices a build uses, and a lock so that one job at a time generates on a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import filelock
import torch

from generators.errors import InputError
from pipelines.files import cache_folder
from pipelines.make.models import pick_device


def parse_devices(text: str) -> tuple[str, ...]:
    """Devices from `auto`, `cpu`, `cuda:1`, `0,1,2,3` (GPUs) or `cpu,cpu` (one worker process for each), as torch names them.

    InputError if one is no device, or a GPU that is not there.
    """
    names = [name.strip() for name in text.split(",")]
    devices = tuple(f"cuda:{name}" if name.isdigit() else "cuda:0" if name == "cuda" else pick_device(name) for name in names)
    for name in devices:
        if not re.fullmatch(r"cpu|mps|cuda:\d+", name):
            raise InputError(f"{name!r} is no device", "Write auto, cpu, cuda:0, or several GPUs as 0,1,2,3")
        if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
            raise InputError(f"there is no GPU {name[5:]}: torch sees {torch.cuda.device_count()}", "`nvidia-smi -L` lists them")
    return devices


@contextmanager
def held(device: str) -> Iterator[None]:
    """Holds a GPU for one generating job of this user on this machine, and waits until it is free. A CPU is shared.

    The lock is the kernel's, on a file, so that it is free again as soon as its holder ends, killed or not.
    """
    if device == "cpu":
        yield
        return
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"device-{_hardware(device)}.lock"):
        yield


def _hardware(device: str) -> str:
    """A name that is the same for all processes, whatever each of them may number its GPUs."""
    if device.startswith("cuda:"):
        return str(torch.cuda.get_device_properties(device).uuid)
    return device

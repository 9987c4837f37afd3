"""What is freed goes back to the machine."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

from foreign.memory import release, trim


def resident() -> int:
    """KiB that this process holds."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_blocks_below_one_that_is_held_go_back() -> None:
    """The C library keeps small freed blocks that lie below a block in use; the machine has them back after `trim`."""
    blocks = [bytearray(100_000) for _ in range(1_000)]  # 100 MB of blocks that are too small to be mapped one by one
    for block in blocks:
        block[::4096] = b"x" * len(block[::4096])
    last = blocks.pop()
    full = resident()
    del blocks, block
    trim()
    assert resident() < full - 50_000 and len(last) == 100_000


class Circle:
    """It refers to itself, as a network and its optimiser do."""

    def __init__(self) -> None:
        self.own = self


def test_what_refers_to_itself_is_released() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Circle())
        assert gone() is not None
        release()
        assert gone() is None
    finally:
        gc.enable()


class Device:
    """torch.cuda, as far as it is asked."""

    def __init__(self, is_there: bool):
        self.is_there, self.emptied = is_there, 0

    def is_available(self) -> bool:
        return self.is_there

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.mark.parametrize("is_there", [True, False])
def test_a_gpu_gives_back_what_torch_keeps(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(is_there)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=device))
    release()
    assert device.emptied == is_there


def test_a_process_without_torch_does_not_load_it() -> None:
    code = "import sys; from foreign.memory import release; release(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, timeout=60)

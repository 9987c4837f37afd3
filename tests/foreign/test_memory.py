"""What is freed goes back to the machine."""

from __future__ import annotations

import sys

import pytest

from foreign.memory import trim


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

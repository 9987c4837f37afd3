"""Naming devices, and holding one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from generators.errors import InputError
from pipelines.build.devices import held, parse_devices

ROOT = Path(__file__).parents[3]


def test_devices_are_named_as_torch_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_devices("cpu,cpu") == ("cpu", "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert parse_devices("0, 3") == ("cuda:0", "cuda:3")
    assert parse_devices("cuda") == ("cuda:0",)
    with pytest.raises(InputError, match="no GPU 4"):
        parse_devices("0,4")


@pytest.mark.parametrize("text", ["", "gpu", "cpu,", "cuda:x", "-1"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no device"):
        parse_devices(text)


def test_a_device_is_free_again_when_its_holder_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path))
    program = "import time\nfrom pipelines.build.devices import held\nwith held('mps'):\n    print('held', flush=True)\n    time.sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        code = "from pipelines.build.devices import held\nwith held('mps'):\n    print('free')"
        second = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(8)
        holder.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert second.communicate(timeout=60)[0] == "free\n"
        assert time.monotonic() - killed < 30
    finally:
        holder.kill()
        holder.wait()
    with held("mps"), held("cpu"), held("cpu"):
        pass

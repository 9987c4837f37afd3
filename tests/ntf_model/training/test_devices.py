"""Which of several GPUs is trained on, and whose memory is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from ntf_model.training.meter import Meter
from ntf_model.training.processes import DEVICE, LAUNCHED, make_accelerator


@pytest.fixture(autouse=True)
def back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(LAUNCHED, raising=False)
    yield
    monkeypatch.undo()
    make_accelerator("no", "cpu")  # what the next test gets is not this one's


def test_the_gpu_that_is_named_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate knows only the first one, unless its environment says otherwise."""
    for device in ("cuda:1", "cuda:0", "cuda:3"):
        assert make_accelerator("no", device).device == torch.device(device)
    assert DEVICE not in os.environ
    assert make_accelerator("no", "cpu").device == torch.device("cpu")
    monkeypatch.setenv(DEVICE, "cuda:2")
    assert make_accelerator("no", "cuda:1").device == torch.device("cuda:2"), "what the user's environment says"


def test_under_a_launcher_each_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stated: list[str | None] = []
    monkeypatch.setattr("ntf_model.training.processes.Accelerator", lambda **_: stated.append(os.environ.get(DEVICE)))
    monkeypatch.setenv(LAUNCHED, "1")
    make_accelerator("no", "cuda:0")
    monkeypatch.delenv(LAUNCHED)
    make_accelerator("no", "cuda:0")
    assert stated == [None, "cuda:0"]


def test_the_memory_is_that_of_the_gpu_that_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(f"reset {device}"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append(f"wait {device}"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    with Meter("cuda:1") as meter:
        pass
    assert asked == ["reset cuda:1", "wait cuda:1"] and meter.peak_memory == 123
    with Meter("cpu") as meter:
        pass
    assert meter.peak_memory > 1_000_000, "of this process"

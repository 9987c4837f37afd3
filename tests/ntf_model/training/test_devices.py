"""Which of several GPUs is trained on, and whose memory is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from ntf_model.ntf.augment import to_tensor
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


def test_a_batch_goes_to_the_gpu_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers that pictures are normalised by are brought there once, and not in each step; `meta` stands for the GPU."""
    mean, std = (0.481, 0.457, 0.406), (0.229, 0.224, 0.2251)
    first = to_tensor(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), mean, std, "meta")
    made: list[torch.device] = []
    plain = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda values, **where: made.append(where["device"]) or plain(values, **where))
    assert to_tensor(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), list(mean), list(std), torch.device("meta")).shape == (5, 3, 4, 4)
    assert made == [] and first.dtype == torch.float32
    there = to_tensor(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), mean, std, "cpu")
    assert torch.allclose(there.flatten(), (1 - plain(mean)) / plain(std))
    weight = torch.ones(1, requires_grad=True)
    with torch.inference_mode():
        to_tensor(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), (0.1,), (0.2,), "cpu")
    (to_tensor(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), (0.1,), (0.2,), "cpu") * weight).sum().backward()
    assert weight.grad is not None

"""The program that measures training, on a small size."""

from __future__ import annotations

import sys

import pytest

from benchmarks import training


def test_every_loop_has_a_row_and_works_on_crops_of_the_size_that_was_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides: list[int] = []
    forward = training.DetectionNetwork.forward

    def seen(self: training.DetectionNetwork, pixels: training.torch.Tensor) -> object:
        sides.append(pixels.shape[-1])
        return forward(self, pixels)

    monkeypatch.setattr(training.DetectionNetwork, "forward", seen)
    words = "training.py --size 16 --batch 4 --steps 2 --warm 1 --repeats 1 --threads 1 --device cpu"
    monkeypatch.setattr(sys, "argv", words.split())
    training.main()
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows == [
        "loop",
        "bare loop",
        training.OWN_LOSSES,
        *(f"{name}, {epoch}" for name in ("store", "folders") for epoch in ("first epoch", "later epochs")),
    ]
    assert set(sides) == {16}

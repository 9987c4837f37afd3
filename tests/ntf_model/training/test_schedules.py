"""Learning rates over a training."""

from __future__ import annotations

import pytest

from ntf_model.training.schedules import ByEpoch, Plateau, WarmupCosine


def test_a_warm_up_rises_to_the_rate_and_a_cosine_falls_from_it() -> None:
    schedule = WarmupCosine(0.1, steps=100, warmup=0.1, final=0.01)
    rates = [schedule.rate(0, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_rate_by_epoch_is_that_of_its_function() -> None:
    assert [ByEpoch(lambda epoch: 1 / (epoch + 1)).rate(epoch, 7) for epoch in range(3)] == pytest.approx([1, 1 / 2, 1 / 3])


def test_the_plateau_divides_the_rate_and_ends() -> None:
    schedule = Plateau(1e-4, patience=2)
    rates = []
    for epoch in range(20):
        rate = schedule.rate(epoch, 0)
        if rate is None:
            break
        rates.append(rate)
        schedule.record({"validation_accuracy": 0.9 if epoch else 0.5})  # rises once, then stands still
    assert rates[:4] == [1e-4] * 4
    assert rates[4] == pytest.approx(1e-5)
    assert len(rates) == 4 + 3 + 3
    assert min(rates) >= 1e-6 * 0.999

"""Folds keep groups whole, and the interval of an AUC holds what it should."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.audit import classify
from pipelines.audit.families import Family


def test_groups_stay_whole_and_folds_hold_both_classes() -> None:
    labels = np.array([0] * 90 + [1] * 60)
    groups = [f"real{number // 3}" for number in range(90)] + [f"fake{number}" for number in range(60)]
    setup = classify.design(labels, groups)
    assert setup is not None
    for group in set(groups):
        assert len({fold for fold, name in zip(setup.folds, groups, strict=True) if name == group}) == 1
    for fold in range(setup.count):
        assert set(labels[setup.folds == fold]) == {0, 1}
    assert classify.design(labels, [f"{label}" for label in labels]) is None


def test_an_interval_holds_a_shortcut_and_its_absence() -> None:
    labels = np.repeat([0, 1], 100)
    setup = classify.design(labels, [str(number) for number in range(200)])
    assert setup is not None
    assert classify.auc_interval(labels.astype(float), setup, 0.05) == (1.0, 1.0, 1.0)
    assert classify.auc_interval(np.zeros(200), setup, 0.05) == (0.5, 0.5, 0.5)
    auc, low, high = classify.auc_interval(np.random.default_rng(0).normal(size=200), setup, 0.05)
    assert low < auc < high
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.645 * np.sqrt(2) * np.sqrt(201 / (12 * 100 * 100)), rel=0.3)


def test_what_is_missing_tells_nothing() -> None:
    rows: list[Family] = [{"a": 1.0, "b": "x"}, {"a": None, "b": None}, {"a": 1.0, "b": "x"}]
    assert classify.matrix(rows).shape == (3, 0)

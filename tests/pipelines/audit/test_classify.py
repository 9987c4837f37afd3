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


def test_words_and_numbers_become_columns_and_what_is_missing_is_the_usual_value() -> None:
    words: list[Family] = [{"w": "a", "n": 1.0}, {"w": "a"}, {"n": 3.0}, {"w": "b", "n": 9.0}]
    columns = {tuple(column) for column in classify.matrix(words).T.tolist()}
    assert columns == {(1.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0), (1.0, 3.0, 3.0, 9.0)}
    many: list[Family] = [{"w": f"word {number}"} for number in range(40) for _ in range(40 - number)]
    told = classify.matrix(many)
    assert told.shape[1] == classify.LEVELS and told.sum(0).tolist() == [40.0 - number for number in range(classify.LEVELS)]


@pytest.mark.parametrize(("least", "folds"), [(24, None), (25, 2), (29, 2), (30, 3), (49, 4), (50, 5), (500, 5)])
def test_folds_follow_from_the_class_with_fewer_groups(least: int, folds: int | None) -> None:
    for labels in (np.array([0] * least + [1] * 600), np.array([1] * least + [0] * 600)):
        setup = classify.design(labels, [str(number) for number in range(len(labels))])
        assert (None if setup is None else setup.count) == folds
        if setup is not None:
            counts = [np.bincount(labels[setup.folds == fold], minlength=2) for fold in range(setup.count)]
            assert max(np.ptp(counts, axis=0)) <= 1


def test_groups_of_both_classes_count_for_both() -> None:
    labels = np.array([0, 1] * 25)
    assert classify.design(labels, [str(number // 2) for number in range(50)]) is not None
    assert classify.design(labels[:48], [str(number // 2) for number in range(48)]) is None


def test_an_auc_is_the_mean_of_the_folds_by_their_sizes() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 1, 1])
    folds = np.array([0] * 4 + [1] * 6)
    setup = classify.Design(labels, np.arange(10), folds)
    scores = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.0])  # 1 in the first fold; of 8 pairs of the other, 4 even
    auc, low, high = classify.auc_interval(scores, setup, 0.05)
    assert auc == pytest.approx(0.4 * 1.0 + 0.6 * (4 * 0.5 / 8))
    assert 0 <= low <= auc <= high <= 1


def test_a_row_is_judged_by_what_has_not_seen_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is of one row alone tells nothing of it; what all fakes share tells everything."""
    monkeypatch.setattr(classify, "TREES", 6)
    labels = np.repeat([0, 1], 40)
    setup = classify.design(labels, [str(number) for number in range(80)])
    assert setup is not None
    shared = classify.out_of_fold(labels[:, None].astype(float), setup)
    assert shared.shape == (80,) and shared[labels == 1].min() > 0.8 and shared[labels == 0].max() < 0.2
    own = classify.out_of_fold(np.eye(80), setup)
    assert classify.auc_interval(own, setup, 0.05)[0] == pytest.approx(0.5, abs=0.1)


def test_both_classifiers_weigh_the_classes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three reals for each fake, and nothing that tells: the scores lie around a half and not around a quarter."""
    monkeypatch.setattr(classify, "TREES", 24)
    labels = np.array([1] * 40 + [0] * 120)
    setup = classify.design(labels, [str(number) for number in range(160)])
    assert setup is not None
    scores = classify.out_of_fold(np.random.default_rng(0).integers(0, 2, (160, 1)).astype(float), setup)
    assert scores.mean() == pytest.approx(0.5, abs=0.04)


def test_fakes_and_reals_are_drawn_again_apart() -> None:
    """Two groups of fakes among many reals: each draw has two, so each has the AUC of 1 that all have."""
    labels = np.array([1, 1] + [0] * 40)
    value, resampled = classify._fold_auc(labels.astype(float), labels, np.arange(42), np.random.default_rng(0))
    assert value == 1.0 and resampled.tolist() == [1.0] * classify.RESAMPLES
    mixed = np.array([1, 0] * 20)  # each group has a fake and its real
    value, resampled = classify._fold_auc(mixed.astype(float), mixed, np.arange(40) // 2, np.random.default_rng(0))
    assert value == 1.0 and resampled.tolist() == pytest.approx([1.0] * classify.RESAMPLES)

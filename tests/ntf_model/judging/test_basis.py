"""Which threshold an evaluation uses: validation's, that of a wished rate, or the detector's own; never one of the test pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntf_model.calibration import Calibration, fit_calibration
from ntf_model.errors import InputError
from ntf_model.judging.evaluate import Scores, basis_of
from ntf_model.judging.metrics import accuracy, best_threshold, error_rates, tpr_at_fpr

SAVED = Calibration(temperature=2.0, real=tuple(np.linspace(0.0, 0.38, 20)), fake=(0.7, 0.9), digest="of training")


def validation(labels: list[int], scores: list[float]) -> Scores:
    return Scores(id=[str(number) for number in range(len(labels))], label=labels, subset=["S"] * len(labels), score=scores)


def test_without_validation_it_is_what_the_detector_was_saved_with() -> None:
    assert basis_of(0.3, SAVED, None, None) == (0.3, SAVED, None, None)
    assert basis_of(0.3, None, None, None) == (0.3, None, None, None)


def test_validation_goes_before_what_was_saved() -> None:
    held_out = validation([0, 0, 1, 1], [0.6, 0.2, 0.7, 0.9])
    basis = basis_of(0.3, SAVED, held_out, None, "of now")
    assert basis.threshold == pytest.approx(0.65)
    assert basis.calibration == fit_calibration(np.array([0, 0, 1, 1]), np.array([0.6, 0.2, 0.7, 0.9]), "of now")
    assert basis.calibration is not None and (basis.calibration.digest, basis.calibration.real) == ("of now", (0.2, 0.6))
    assert (basis.validation, basis.fpr) == (held_out, None)


def test_a_wished_rate_is_taken_from_validation_or_else_from_what_was_saved() -> None:
    reals = [number / 100 for number in range(20)]
    held_out = validation([0] * 20 + [1], [*reals, 0.99])
    assert basis_of(0.3, SAVED, held_out, 0.1) == (0.18, fit_calibration(np.array(held_out.label), np.array(held_out.score)), held_out, 0.1)
    assert basis_of(0.3, SAVED, None, 0.1).threshold == SAVED.threshold_at(0.1) != 0.3
    with pytest.raises(InputError, match="no threshold for an FPR is known"):
        basis_of(0.3, None, None, 0.1)
    with pytest.raises(InputError, match="no threshold for an FPR is known"):
        basis_of(0.3, SAVED, validation([1, 1], [0.5, 0.6]), 0.1)  # validation without a real says nothing of them


def test_validation_of_one_class_leaves_a_half() -> None:
    assert basis_of(0.3, SAVED, validation([1, 1], [0.5, 0.6]), None)[:2] == (0.5, None)
    assert best_threshold(np.zeros(3), np.array([0.1, 0.2, 0.3])) == 0.5


scored = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=2, max_size=30).filter(
    lambda rows: len({row[0] for row in rows}) == 2
)


@given(scored)
@settings(deadline=None, max_examples=60)
def test_no_other_threshold_has_a_higher_balanced_accuracy(rows: list[tuple[int, int]]) -> None:
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] / 10 for row in rows])

    def balanced(threshold: float) -> float:
        return 1 - sum(error_rates(labels, scores, threshold)) / 2

    chosen = best_threshold(labels, scores)
    middles = np.unique(np.concatenate([[0.0, 1.0], scores, (scores[:, None] + scores[None]).ravel() / 2]))
    values = np.array([balanced(cut) for cut in middles])
    assert balanced(chosen) == pytest.approx(values.max())
    assert 0 <= chosen <= 1


@given(scored, st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_the_tpr_at_an_fpr_is_that_of_the_best_allowed_threshold(rows: list[tuple[int, int]], fpr: float) -> None:
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] / 10 for row in rows])
    allowed = [1 - fnr for false, fnr in (error_rates(labels, scores, cut) for cut in (-1.0, *scores, 2.0)) if false <= fpr]
    assert tpr_at_fpr(labels, scores, fpr) == pytest.approx(max(allowed))


def test_a_score_at_the_threshold_is_called_real() -> None:
    labels, scores = np.array([0, 1, 1]), np.array([0.4, 0.4, 0.6])
    assert accuracy(labels, scores, 0.4) == pytest.approx(2 / 3)
    assert error_rates(labels, scores, 0.4) == (0.0, 0.5)
    assert error_rates(labels, scores, 0.39) == (1.0, 0.0)

"""Average precision, AUROC, TPR at a fixed FPR, EER and accuracy against scikit-learn's stored values, ties included."""

from __future__ import annotations

import re

import numpy as np

from ntf_model.judging import bootstrap, metrics
from tests.parity.cases import Case

EXACT = 1e-12  # stated in the case


def check(case: Case) -> None:
    groups = sorted(name.removesuffix("/score") for name in case.arrays if name.endswith("/score"))
    assert groups, f"{case.id} holds no scores"
    for group in groups:
        labels, scores = case.arrays[f"{group}/y"], case.arrays[f"{group}/score"]
        stored = [name for name in case.arrays if name.startswith(f"{group}/") and name.rpartition("/")[2] not in ("y", "score")]
        assert stored, f"{case.id}: {group} has nothing to compare with"
        for name in stored:
            _close(case, name, compute(name.removeprefix(f"{group}/"), labels, scores))
        if {0, 1} <= set(labels.tolist()):
            _check_resampling(case, group, labels, scores)


def compute(name: str, labels: np.ndarray, scores: np.ndarray) -> float | np.ndarray:
    """A stored measure by its name."""
    if match := re.fullmatch(r"tpr_at_fpr([\d.]+)_(step|interp)", name):
        return metrics.tpr_at_fpr(labels, scores, float(match[1]), interpolate=match[2] == "interp")
    if match := re.fullmatch(r"acc_gt_([\d.]+)", name):
        return metrics.accuracy(labels, scores, float(match[1]))
    if match := re.fullmatch(r"auroc_max_fpr_([\d.]+)", name):
        return metrics.auroc(labels, scores, max_fpr=float(match[1]))
    if match := re.fullmatch(r"roc_(fpr|tpr|thresholds)", name):
        return metrics.roc_curve(labels, scores)[["fpr", "tpr", "thresholds"].index(match[1])]
    return {
        "ap": metrics.average_precision,
        "auroc": metrics.auroc,
        "eer_nearest": metrics.equal_error_rate,
        "eer_deepfakebench": lambda labels, scores: metrics.equal_error_rate(labels, scores, at="fpr"),
    }[name](labels, scores)


def _check_resampling(case: Case, group: str, labels: np.ndarray, scores: np.ndarray) -> None:
    """The bootstrap's counting gives the same measures when every picture occurs once."""
    counted = bootstrap.resample(labels, scores, 0.3, np.ones((1, len(labels)), np.int16))
    for name, value in metrics.measure(labels, scores, 0.3).items():
        assert abs(counted[name][0] - value) <= EXACT, f"{case.id} {group}: {name} counted {counted[name][0]}, direct {value}"


def _close(case: Case, name: str, got: float | np.ndarray) -> None:
    want, got = case.arrays[name], np.asarray(got)
    assert got.shape == want.shape, f"{case.id} {name}: shape {got.shape}, stored {want.shape}"
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite]), f"{case.id} {name}: {got} instead of {want}"
    off = np.max(np.abs(got[finite] - want[finite]), initial=0.0)
    assert off <= EXACT, f"{case.id} {name}: off by {off:.3g}"

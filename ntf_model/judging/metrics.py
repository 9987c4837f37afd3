"""Measures of a detector from labels (1 = fake = positive) and scores (higher = more likely fake).

They come from scikit-learn. `ntf_model.judging.bootstrap` gives the same measures for many bootstrap replicates at once.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

MEASURES = ("ap", "acc", "fpr", "fnr", "acc_fixed", "auroc", "tpr_at_fpr_1", "tpr_at_fpr_5")


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps, ties grouped, not interpolated; nan if a class is missing: without reals it is 1 whatever the
    scores are."""
    if len(np.unique(labels)) < 2:
        return float("nan")
    return min(1.0, float(average_precision_score(labels, scores)))  # its sum can come to 1 + 2e-16


def chance_ap(n_fake: int, n_real: int) -> float:
    """The AP that random scores have on average: above the share of fakes, and the more so the fewer pictures there are (0.573 for nine
    fakes and nine reals). nan if a class is missing.

    A fake at rank k has on average 1 + (k - 1) (F - 1) / (N - 1) fakes among the first k, itself included; AP is the mean of that over k
    and over all N ranks.
    """
    total = n_fake + n_real
    if not n_fake or not n_real:
        return float("nan")
    harmonic = float((1 / np.arange(1, total + 1)).sum())
    return (harmonic + (n_fake - 1) / (total - 1) * (total - harmonic)) / total


def auroc(labels: np.ndarray, scores: np.ndarray, max_fpr: float | None = None) -> float:
    """P(fake scores higher than real) + half P(equal); with `max_fpr` McClish's standardised partial area. nan if a class is missing."""
    return float(roc_auc_score(labels, scores, max_fpr=max_fpr)) if len(np.unique(labels)) == 2 else float("nan")


def accuracy(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> float:
    """Share of pictures on their side of `threshold`; a score equal to it counts as real."""
    return float(np.mean((scores > threshold) == (labels == 1))) if len(labels) else float("nan")


def error_rates(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> tuple[float, float]:
    """(FPR, FNR): the share of reals called fake and of fakes called real; nan where the class is missing."""
    called = scores > threshold
    reals, fakes = called[labels == 0], called[labels == 1]
    return (float(reals.mean()) if len(reals) else float("nan"), float(1 - fakes.mean()) if len(fakes) else float("nan"))


def roc_curve(labels: np.ndarray, scores: np.ndarray, drop_intermediate: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(FPR, TPR, thresholds), thresholds descending from +inf, one point for each distinct score."""
    return sklearn_roc_curve(labels, scores, drop_intermediate=drop_intermediate)


def tpr_at_fpr(labels: np.ndarray, scores: np.ndarray, fpr: float, interpolate: bool = False) -> float:
    """The highest TPR whose FPR is at most `fpr`, or the ROC linearly interpolated there; nan if a class is missing."""
    if len(np.unique(labels)) < 2:
        return float("nan")
    x, y, _ = roc_curve(labels, scores)
    return float(np.interp(fpr, x, y)) if interpolate else float(y[x <= fpr].max())


def equal_error_rate(labels: np.ndarray, scores: np.ndarray, at: Literal["mean", "fpr"] = "mean") -> float:
    """The error where FPR and FNR are nearest to each other: their mean, or the FPR on the thinned curve, as DeepfakeBench reports it."""
    x, y, _ = roc_curve(labels, scores, drop_intermediate=at == "fpr")
    nearest = np.nanargmin(np.abs(1 - y - x))
    return float(x[nearest]) if at == "fpr" else float((x[nearest] + 1 - y[nearest]) / 2)


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy (mean of both classes'), in the middle of the gap between two scores; among
    equals the one nearest to 0.5. For the validation split only: never the split that is reported."""
    if len(np.unique(labels)) < 2:
        return 0.5
    x, y, cuts = roc_curve(labels, scores)  # point i of the curve calls scores >= cuts[i] fake; cuts[0] is infinite
    middle = (np.append(1.0, cuts[1:]) + np.append(cuts[1:], 0.0)) / 2
    gain = y - x
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float(middle[best[np.argmin(np.abs(middle[best] - 0.5))]])


def measure(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """All of MEASURES; `acc_fixed` is the accuracy at `threshold`, the other accuracy and error rates are at 0.5."""
    fpr, fnr = error_rates(labels, scores)
    return {
        "ap": average_precision(labels, scores),
        "acc": accuracy(labels, scores),
        "fpr": fpr,
        "fnr": fnr,
        "acc_fixed": accuracy(labels, scores, threshold),
        "auroc": auroc(labels, scores),
        "tpr_at_fpr_1": tpr_at_fpr(labels, scores, 0.01),
        "tpr_at_fpr_5": tpr_at_fpr(labels, scores, 0.05),
    }

"""The bootstrap: which pictures each replicate draws, the measures of all replicates at once, and the intervals."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ntf_model.data.data import DetectionData
from ntf_model.judging.metrics import MEASURES

Z = 1.959964  # of the normal distribution, two-sided 95 %
CHUNK = 64  # replicates worked on together: bounds the memory at CHUNK x pictures x 8 bytes, a few times over


class Measure(BaseModel):
    """A value with its 95 % interval; all None where it is not defined (a class is missing)."""

    model_config = ConfigDict(frozen=True)

    value: float | None
    low: float | None = None
    high: float | None = None


class Sizes(NamedTuple):
    """How many different pictures of each class stand behind a figure."""

    fakes: int
    reals: int

    def behind(self, measure: str) -> int:
        """The pictures that limit what can be known of a measure: those of its class, or the smaller class for measures of ranks."""
        if measure in ("acc", "acc_fixed"):
            return self.fakes + self.reals
        return {"fpr": self.reals, "fnr": self.fakes}.get(measure, min(self))


def with_interval(value: float, drawn: np.ndarray | None, pictures: int) -> Measure:
    """`value`, a share in [0, 1], with a 95 % interval, if there are bootstrap replicates `drawn`.

    The interval is Wilson's for a share of as many independent pictures as would have the replicates' variance, and at most `pictures`. So
    it always holds the value, and is no point where all replicates agree, as at 0 and 1. The percentiles of the replicates have the lower
    end above chance too often: for AP at nine fakes and nine reals in 6 % of the draws of random scores.
    """
    if np.isnan(value):
        return Measure(value=None)
    if drawn is None:
        return Measure(value=value)
    variance = float(np.nanvar(drawn)) * (pictures / (pictures - 1) if pictures > 1 else 1.0)
    spread = value * (1 - value)
    number = max(1.0, min(spread / variance, pictures)) if variance > 0 and spread > 0 else float(pictures)
    middle = (value + Z**2 / (2 * number)) / (1 + Z**2 / number)
    half = Z / (1 + Z**2 / number) * float(np.sqrt(spread / number + Z**2 / (4 * number**2)))
    return Measure(value=value, low=min(value, max(0.0, middle - half)), high=max(value, min(1.0, middle + half)))


def difference_with_interval(value: float, drawn: np.ndarray | None) -> Measure:
    """A difference in [-1, 1] with the interval from the 2.5th to the 97.5th percentile of its replicates, widened to hold the value."""
    if np.isnan(value):
        return Measure(value=None)
    if drawn is None or np.isnan(drawn).all():
        return Measure(value=value)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Measure(value=value, low=min(float(low), value), high=max(float(high), value))


def bootstrap_counts(data: DetectionData, members: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """How often each member occurs in each replicate: int16 `[replicates, members]`. Each class of each subset is drawn on its own.

    The draw of a group follows from its name, so that subsets that share a real source share its draws too, and averages over them have
    the right interval.
    """
    counts = np.zeros((replicates, len(members)), dtype=np.int16)
    labels, subsets = data.labels[members], data.subsets[members]
    for label in (0, 1):
        group = np.flatnonzero(labels == label)
        if len(group):
            name = f"{label}\x1f{subsets[group[0]]}"
            rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
            for replicate in range(replicates):
                counts[replicate, group] = np.bincount(rng.integers(len(group), size=len(group)), minlength=len(group))
    return counts


def resample(labels: np.ndarray, scores: np.ndarray, threshold: float, counts: np.ndarray) -> dict[str, np.ndarray]:
    """MEASURES for each bootstrap replicate: float `[B]` each. `counts[b, i]` is how often picture i occurs in replicate b.

    The same as `measure` on the repeated pictures, without repeating them: pictures are sorted once and counted along the order.
    """
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last picture of each distinct score
    parts = [
        _measure_counts(labels, scores, ends, threshold, counts[start : start + CHUNK][:, order].astype(np.float64))
        for start in range(0, len(counts), CHUNK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in MEASURES}


def _measure_counts(
    labels: np.ndarray, scores: np.ndarray, ends: np.ndarray, threshold: float, counts: np.ndarray
) -> dict[str, np.ndarray]:
    fakes, reals = counts * (labels == 1), counts * (labels == 0)
    n_fake, n_real = fakes.sum(1), reals.sum(1)
    tp, fp = (np.pad(kind.cumsum(1)[:, ends], ((0, 0), (1, 0))) for kind in (fakes, reals))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = tp / (tp + fp)
        precision = np.nan_to_num(precision)  # the point before the first picture
        ap = (np.diff(tp, axis=1) * precision[:, 1:]).sum(1) / n_fake
        area = (np.diff(fp, axis=1) * (tp[:, 1:] + tp[:, :-1])).sum(1) / (2 * n_fake * n_real)
        rates = {limit: np.where(fp / n_real[:, None] <= limit, tp, 0).max(1) / n_fake for limit in (0.01, 0.05)}
        called = {cut: ((fakes * (scores > cut)).sum(1), (reals * (scores > cut)).sum(1)) for cut in (0.5, threshold)}
        right = {cut: (hit + n_real - wrong) / (n_fake + n_real) for cut, (hit, wrong) in called.items()}
        missing = np.where((n_fake == 0) | (n_real == 0), np.nan, 0.0)
        return {
            "ap": ap + missing,
            "acc": right[0.5],
            "fpr": called[0.5][1] / n_real,
            "fnr": 1 - called[0.5][0] / n_fake,
            "acc_fixed": right[threshold],
            "auroc": area,
            "tpr_at_fpr_1": rates[0.01] + missing,
            "tpr_at_fpr_5": rates[0.05] + missing,
        }

"""How far a detector's probabilities, thresholds and band hold on test: Brier score, ECE, the reliability diagram, error rates."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel
from scipy.stats import binomtest

from ntf_model.calibration import ERROR, Calibration
from ntf_model.errors import InputError
from ntf_model.judging.bootstrap import Measure

BINS = 10  # of the reliability diagram and of the ECE, of equal width
WISHES = (0.01, 0.05)  # shares of reals called fake that a threshold is looked up for, if validation has enough reals


class Bin(BaseModel):
    """Pictures whose P(fake) lies in one bin: their mean P(fake), the share of fakes among them, and the share of all pictures that they
    are (None and 0 in an empty bin). Both classes weigh alike, however many pictures they have."""

    low: float
    high: float
    probability: float | None
    fakes: float | None
    weight: float
    pictures: int


class Wish(BaseModel):
    """A wished FPR, the threshold that validation gives for it (None: too few validation reals), and what it does on test."""

    wished: float
    threshold: float | None
    fpr: Measure
    fnr: Measure


class BandResult(BaseModel):
    """The band of a stated error on test: errors by class, and how many pictures of each class are called neither real nor fake."""

    error: float
    low: float
    high: float
    real_as_fake: Measure
    fake_as_real: Measure
    unsure_reals: Measure
    unsure_fakes: Measure


class Reliability(BaseModel):
    """Brier score and expected calibration error of the scores as they are and at the fitted temperature, with both classes weighing alike;
    the bins of the calibrated probabilities; thresholds by wish; the band. Intervals are Wilson's, 95 %."""

    temperature: float
    validation_reals: int
    validation_fakes: int
    reals: int
    fakes: int
    brier_scores: float
    brier: float
    ece_scores: float
    ece: float
    bins: list[Bin]
    wishes: list[Wish]
    band: BandResult


def reliability(
    calibration: Calibration, labels: np.ndarray, scores: np.ndarray, *, fpr: float | None = None, error: float = ERROR
) -> Reliability | None:
    """What `calibration` gives on test pictures with these labels and scores; None if a class is missing. `fpr` is a further wish, which
    also bounds the errors on reals in the band."""
    reals, fakes = scores[labels == 0], scores[labels == 1]
    if not len(reals) or not len(fakes):
        return None
    weights = np.where(labels == 1, 0.5 / len(fakes), 0.5 / len(reals))
    probabilities = calibration.probability(scores)
    band = calibration.band(error, fpr)
    return Reliability(
        temperature=calibration.temperature,
        validation_reals=len(calibration.real),
        validation_fakes=len(calibration.fake),
        reals=len(reals),
        fakes=len(fakes),
        brier_scores=brier(labels, scores, weights),
        brier=brier(labels, probabilities, weights),
        ece_scores=expected_calibration_error(bins_of(labels, scores, weights)),
        ece=expected_calibration_error(bins_of(labels, probabilities, weights)),
        bins=bins_of(labels, probabilities, weights),
        wishes=[_wish(calibration, wished, reals, fakes) for wished in sorted({*WISHES, *([] if fpr is None else [fpr])})],
        band=BandResult(
            error=error,
            low=band.low,
            high=band.high,
            real_as_fake=share(reals > band.high),
            fake_as_real=share(fakes < band.low),
            unsure_reals=share((reals >= band.low) & (reals <= band.high)),
            unsure_fakes=share((fakes >= band.low) & (fakes <= band.high)),
        ),
    )


def brier(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """The weighted mean of (P(fake) - label) squared (Brier 1950)."""
    return float(np.average((probabilities - labels) ** 2, weights=weights))


def bins_of(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, count: int = BINS) -> list[Bin]:
    """The reliability diagram: `count` bins of equal width over [0, 1]; a probability of 1 is in the last."""
    place = np.minimum((probabilities * count).astype(int), count - 1)
    total = weights.sum()
    bins = []
    for number in range(count):
        inside = place == number
        weight = float(weights[inside].sum())
        has_some = bool(inside.any())
        bins.append(
            Bin(
                low=number / count,
                high=(number + 1) / count,
                probability=float(np.average(probabilities[inside], weights=weights[inside])) if has_some else None,
                fakes=float(np.average(labels[inside], weights=weights[inside])) if has_some else None,
                weight=weight / total,
                pictures=int(inside.sum()),
            )
        )
    return bins


def expected_calibration_error(bins: list[Bin]) -> float:
    """The mean over bins of |mean P(fake) - share of fakes|, weighted by their pictures (Naeini et al. 2015)."""
    return float(sum(part.weight * abs((part.probability or 0.0) - (part.fakes or 0.0)) for part in bins))


def share(hits: np.ndarray) -> Measure:
    """The share of true values with Wilson's 95 % interval."""
    if not len(hits):
        return Measure(value=None)
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return Measure(value=float(hits.mean()), low=float(interval.low), high=float(interval.high))


def _wish(calibration: Calibration, wished: float, reals: np.ndarray, fakes: np.ndarray) -> Wish:
    try:
        threshold = calibration.threshold_at(wished)
    except InputError:  # too few validation reals, which the table shows as a dash
        return Wish(wished=wished, threshold=None, fpr=Measure(value=None), fnr=Measure(value=None))
    return Wish(wished=wished, threshold=threshold, fpr=share(reals > threshold), fnr=share(fakes <= threshold))

"""How good the images of a subset are, in numbers that are measured and never guessed: what was not measured is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_FOR_KID = 8  # images on each side


@dataclass(frozen=True)
class Quality:
    """A subset in numbers, each over the images that have it, or None where none has. Similarities are cosines, distances are in
    distances between the eyes, and `rejected_share` is of all tries. `features` is empty without a feature network."""

    images: int
    rejected_share: float
    sharpness: float | None  # the median
    similarity_before: float | None  # means from here on
    similarity_source: float | None
    similarity_target: float | None
    pose_distance: float | None
    expression_distance: float | None
    features: dict[str, float]


def subset_quality(
    measures: Sequence[dict[str, Any]], rejected: int, fakes: np.ndarray | None = None, reals: np.ndarray | None = None
) -> Quality:
    """The quality of a subset from the `measures` of its final rows and the number of its rejected tries.

    With features `[N, D]` of its images and `[M, D]` of the real ones it is compared with, their distances too.
    """
    similarities = [values["similarity"] for values in measures if "similarity" in values]
    return Quality(
        len(measures),
        rejected / max(1, rejected + len(measures)),
        median_sharpness(measures),
        _mean(values["before"] for values in similarities),
        _mean(values["source"] for values in similarities),
        _mean(values["target"] for values in similarities),
        _mean(values["pose_distance"] for values in measures if "pose_distance" in values),
        _mean(values["expression_distance"] for values in measures if "expression_distance" in values),
        feature_distances(fakes, reals) if fakes is not None and reals is not None else {},
    )


def median_sharpness(measures: Iterable[dict[str, Any]]) -> float | None:
    """Over the images that have one."""
    sharpness = [values["sharpness"] for values in measures if "sharpness" in values]
    return float(np.median(sharpness)) if sharpness else None


def feature_distances(fakes: np.ndarray, reals: np.ndarray) -> dict[str, float]:
    """`fid` and `kid` of two sets of features, as far as there are images enough.

    FID needs more images than features on both sides (its covariances are singular otherwise, and the number means nothing), KID a few.
    """
    least = min(len(fakes), len(reals))
    distances = {}
    if least > fakes.shape[1]:
        distances["fid"] = fid(fakes, reals)
    if least >= LEAST_FOR_KID:
        distances["kid"] = kid(fakes, reals)
    return distances


def fid(first: np.ndarray, second: np.ndarray) -> float:
    """The Fréchet distance of two sets of features `[N, D]` (Heusel et al. 2017): between Gaussians with their means and covariances."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the root of a product of two covariances is the sum of the roots of its eigenvalues, which are real and not negative.
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1]).real
    shared = 2 * np.sqrt(eigenvalues.clip(min=0)).sum()
    return float(np.square(first.mean(0) - second.mean(0)).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - shared)


def kid(first: np.ndarray, second: np.ndarray) -> float:
    """The kernel distance of two sets of features `[N, D]` (Binkowski et al. 2018): the unbiased squared MMD under (x . y / D + 1)^3.

    It is unbiased at any number of images, so it may be a little below zero.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: np.ndarray) -> float:
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return float(within(first) + within(second) - 2 * kernel(first, second).mean())


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return float(np.mean(known)) if known else None

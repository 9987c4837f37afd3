"""Can a classifier tell fake from real by a family of features? Cross-validated by group, with an interval of its AUC.

Every figure is the mean of the AUCs within the folds: scores of different folds come from different models, and comparing them with each
other pulls an AUC of random labels below 0.5. Given the other folds, the labels of a fold say nothing about its model, so without a
shortcut each fold's AUC is 0.5 on average whatever was learnt, and resampling the fold's groups gives the spread of that one AUC.

The spread of their mean is larger than if they were independent. What two folds have in common by chance counts twice: once when one is
learnt from and the other judged, once the other way round. So the mean's variance is twice what resampling within the folds shows, for any
number of folds (where scores are linear in what was learnt), and the bootstrap's deviations are widened by the root of two. docs/audit.md
has the false alarms that were measured.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.audit.families import Family, Value

LEAST_GROUPS = 25  # of each class: fewer say nothing either way
FOLDS = 5
LEAST_GROUPS_PER_FOLD = 10  # of each class, as far as two folds allow
LEVELS = 16  # words of a feature that are told apart; the rarer ones count as one
TREES = 24
RESAMPLES = 1000
WIDENING = np.sqrt(2.0)
ERROR = 0.05  # the chance that any of the lower bounds of a clean dataset is above 0.5


@dataclass(frozen=True)
class Design:
    """Who is compared: `labels` (1 fake), the group of each row, and the fold of each row. Arrays of length N."""

    labels: np.ndarray
    groups: np.ndarray
    folds: np.ndarray

    @property
    def count(self) -> int:
        return int(self.folds.max()) + 1


def design(labels: np.ndarray, groups: Sequence[str], seed: int = 0) -> Design | None:
    """Folds that keep groups whole and hold both classes alike; None where a class has too few groups to say anything."""
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    fakes = np.bincount(numbers, weights=labels)
    sizes = np.bincount(numbers)
    kinds = np.where(fakes == sizes, 1, np.where(fakes == 0, 0, 2))  # all fake, all real, both
    least = min(int(np.sum(kinds != 0)), int(np.sum(kinds != 1)))
    if least < LEAST_GROUPS:
        return None
    count = int(np.clip(least // LEAST_GROUPS_PER_FOLD, 2, FOLDS))
    rng = np.random.default_rng(seed)
    fold_of = np.empty(len(sizes), np.int64)
    for kind in range(3):
        own = rng.permutation(np.flatnonzero(kinds == kind))
        own = own[np.argsort(-sizes[own], kind="stable")]  # large groups first, so that folds come out alike
        fold_of[own] = np.arange(len(own)) % count
    return Design(labels.astype(np.int64), numbers, fold_of[numbers])


def matrix(rows: Sequence[Family]) -> np.ndarray:
    """Families as a float matrix `[N, D]` without constant columns. Words become one column for each of the common ones.

    A value that a format does not have is taken to be the usual one, so that it tells nothing.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: list[np.ndarray] = []
    for name in names:
        columns += _columns([row.get(name) for row in rows])
    kept = [column for column in columns if np.ptp(column) > 0]
    return np.stack(kept, axis=1) if kept else np.empty((len(rows), 0))


def _columns(values: list[Value]) -> list[np.ndarray]:
    known = [value for value in values if value is not None]
    if not known:
        return []
    if isinstance(known[0], str):
        common = [level for level, _ in Counter(map(str, known)).most_common(LEVELS)]
        return [np.array([float((common[0] if value is None else value) == level) for value in values]) for level in common]
    usual = float(np.median(np.array(known, np.float64)))
    return [np.array([usual if value is None else float(value) for value in values])]


def out_of_fold(features: np.ndarray, setup: Design) -> np.ndarray:
    """How fake each row looks to a forest and a logistic regression that have not seen its group: the mean of both, `[N]`."""
    from sklearn import config_context
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros(len(features))
    for fold in range(setup.count):
        test = setup.folds == fold
        seen, labels = features[~test], setup.labels[~test]
        centre, spread = seen.mean(0), seen.std(0) + 1e-9
        scaled = np.clip((features - centre) / spread, -5, 5)
        forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=0)
        line = LogisticRegression(C=0.1, max_iter=200, class_weight="balanced")
        with (
            warnings.catch_warnings(),
            config_context(skip_parameter_validation=True, assume_finite=True),
        ):  # which takes longer than fitting
            warnings.simplefilter("ignore")  # a separable shortcut does not converge, and need not
            scores[test] = forest.fit(seen, labels).predict_proba(features[test])[:, 1]
            scores[test] += line.fit(scaled[~test], labels).predict_proba(scaled[test])[:, 1]
    return scores / 2


def auc_interval(scores: np.ndarray, setup: Design, error: float, seed: int = 0) -> tuple[float, float, float]:
    """The AUC, averaged over the folds, and a bootstrap interval that each side misses with a chance of `error`.

    Whole groups are drawn again within each fold, those of fakes and those of reals apart.
    """
    rng = np.random.default_rng(seed)
    value, drawn, total = 0.0, np.zeros(RESAMPLES), 0
    for fold in range(setup.count):
        own = setup.folds == fold
        weight = int(own.sum())
        single, resampled = _fold_auc(scores[own], setup.labels[own], setup.groups[own], rng)
        value, drawn, total = value + weight * single, drawn + weight * resampled, total + weight
    value, drawn = value / total, drawn / total
    low, high = value + WIDENING * (np.quantile(drawn, [error, 1 - error]) - value)
    return float(value), float(np.clip(low, 0, value)), float(np.clip(high, value, 1))


def _fold_auc(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    fake, real = scores[labels == 1], scores[labels == 0]
    wins = (fake[:, None] > real[None]).astype(np.float64) + 0.5 * (fake[:, None] == real[None])
    names, numbers = np.unique(groups, return_inverse=True)
    sizes, fakes = np.bincount(numbers), np.bincount(numbers, weights=labels)
    times = np.zeros((RESAMPLES, len(names)))
    for kind in (fakes == sizes, fakes == 0, (fakes > 0) & (fakes < sizes)):
        count = int(kind.sum())
        if count:
            times[:, kind] = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    of_fakes, of_reals = times[:, numbers[labels == 1]], times[:, numbers[labels == 0]]
    pairs = of_fakes.sum(1) * of_reals.sum(1)
    resampled = np.einsum("bj,bj->b", of_fakes @ wins, of_reals) / np.maximum(pairs, 1)
    return float(wins.mean()), resampled

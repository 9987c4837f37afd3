"""A detector's results on a test split: every subset against the reals of its own source, families, all, and the worst subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from ntf_model.data.data import FAKE, DetectionData, Item
from ntf_model.data.loader import batches_of
from ntf_model.detector import Detector, Progress, silent
from ntf_model.errors import InputError
from ntf_model.files import write_text
from ntf_model.judging.bootstrap import Measure, bootstrap_counts, resample, with_interval
from ntf_model.judging.metrics import MEASURES, best_threshold, measure

Transform = Callable[[np.ndarray], np.ndarray]


class Row(BaseModel):
    """One subset, or an average over several. `measures` has the keys of `ntf_model.judging.metrics.MEASURES`."""

    name: str
    family: str
    n_real: int
    n_fake: int
    measures: dict[str, Measure]


class Scores(BaseModel):
    """What the detector said of each picture, column by column."""

    id: list[str]
    label: list[int]
    subset: list[str]
    score: list[float]


class Evaluation(BaseModel):
    """The results of one detector on one test split.

    `families` and `overall` are means over subsets, "unweighted" or "weighted" by their number of fakes. `threshold` was fixed on the
    validation split. FPR and FNR count fake as positive: the paper's own tables have them the other way round.
    """

    detector: str
    title: str
    data_digest: str
    validation_digest: str
    threshold: float
    subsets: list[Row]
    families: dict[str, dict[str, Row]]  # family -> "unweighted" or "weighted"
    overall: dict[str, Row]
    worst: str  # the subset with the lowest AP
    bootstrap: int
    scores: Scores

    def row(self, subset: str) -> Row:
        """The row of a subset; KeyError if there is none."""
        for row in self.subsets:
            if row.name == subset:
                return row
        raise KeyError(subset)

    def to_json(self) -> str:
        """The whole evaluation, scores included. `Evaluation.model_validate_json` reads it again."""
        return self.model_dump_json(indent=1)

    def save(self, file: Path) -> None:
        """Writes `to_json` so that the file appears whole or not at all."""
        write_text(file, self.to_json() + "\n")

    @classmethod
    def load(cls, file: Path) -> Evaluation:
        """Reads what `save` wrote. Raises InputError if it is missing or something else."""
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the evaluation {file}: {error.strerror}", "Run `ntf evaluate` first") from None
        except ValueError:
            raise InputError(f"{file} is not an evaluation", "Give the JSON file that `ntf evaluate` wrote") from None


class Scored(NamedTuple):
    """Every picture of a split in its order: ids and P(fake), float64 `[N]`."""

    ids: list[str]
    scores: np.ndarray


def evaluate(
    detector: Detector,
    data: DetectionData,
    validation: DetectionData,
    *,
    transform: Transform | None = None,
    threshold: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
    on_progress: Progress = silent,
) -> Evaluation:
    """Scores `data` and measures every subset in it.

    The threshold is chosen on `validation` unless given (robustness keeps one threshold over all degradations). `transform` is applied to
    each test picture first. `bootstrap` replicates draw pictures with replacement within each class of each subset; 0 leaves intervals out.
    Raises InputError if the data have no fakes or the detector gives a score that is no probability.
    """
    if not data.fake_subsets:
        raise InputError("there are no fakes to evaluate on", "Give a split that has some")
    if threshold is None:
        held_out = score_data(detector, validation, batch_size=batch_size, on_progress=_named(on_progress, "validation"))
        threshold = best_threshold(validation.labels, held_out.scores)
    scored = score_data(detector, data, transform=transform, batch_size=batch_size, on_progress=_named(on_progress, "test"))
    return summarise(
        data,
        scored,
        threshold,
        name=detector.name,
        title=detector.title,
        validation_digest=validation.digest,
        bootstrap=bootstrap,
        seed=seed,
    )


def summarise(
    data: DetectionData,
    scored: Scored,
    threshold: float,
    *,
    name: str,
    title: str,
    validation_digest: str = "",
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """The evaluation of scores that are there already."""
    replicates: dict[str, dict[str, np.ndarray]] = {}
    rows: list[Row] = []
    for subset in data.fake_subsets:
        members = data.evaluated_rows(subset)
        labels, scores = data.labels[members], scored.scores[members]
        values = measure(labels, scores, threshold)
        if bootstrap:
            replicates[subset] = resample(labels, scores, threshold, bootstrap_counts(data, members, bootstrap, seed))
        n_fake = int((labels == FAKE).sum())
        measures = {key: with_interval(values[key], replicates[subset][key] if bootstrap else None) for key in MEASURES}
        rows.append(
            Row(name=subset, family=data.families.get(subset, "other"), n_real=len(members) - n_fake, n_fake=n_fake, measures=measures)
        )
    families = {family: _averages(family, [row for row in rows if row.family == family], replicates) for family in _ordered(rows)}
    worst = min(rows, key=lambda row: row.measures["ap"].value if row.measures["ap"].value is not None else np.inf)
    columns = Scores(id=scored.ids, label=data.labels.tolist(), subset=data.subsets.tolist(), score=scored.scores.tolist())
    return Evaluation(
        detector=name,
        title=title,
        data_digest=data.digest,
        validation_digest=validation_digest,
        threshold=threshold,
        subsets=rows,
        families=families,
        overall=_averages("all", rows, replicates),
        worst=worst.name,
        bootstrap=bootstrap,
        scores=columns,
    )


def score_data(
    detector: Detector, data: DetectionData, *, transform: Transform | None = None, batch_size: int = 64, on_progress: Progress = silent
) -> Scored:
    """The detector's score of every picture. The next batch is read while one is being scored."""
    ids: list[str] = []
    parts: list[np.ndarray] = []
    for items in batches_of(data, batch_size):
        images = [item.image if transform is None else transform(item.image) for item in items]
        parts.append(probabilities(detector.score(images), items, detector.name))
        ids += [item.id for item in items]
        on_progress(len(ids), len(data), "scoring")
    return Scored(ids, np.concatenate(parts) if parts else np.empty(0))


def probabilities(scores: np.ndarray, items: Sequence[Item], detector: str) -> np.ndarray:
    """The scores of `items` as float64 `[N]`. Raises InputError if there is not one for each, or one is no probability."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(items),) or not np.all((scores >= 0) & (scores <= 1)):
        raise InputError(f"{detector} gave a score that is no probability for {items[0].id} or one of its batch", "Train it again")
    return scores


def _averages(name: str, rows: Sequence[Row], replicates: dict[str, dict[str, np.ndarray]]) -> dict[str, Row]:
    """Means over subsets, unweighted and weighted by the number of fakes."""
    weights = {"unweighted": np.ones(len(rows)), "weighted": np.array([row.n_fake for row in rows], dtype=float)}
    averages = {}
    for kind, weight in weights.items():
        measures = {}
        for key in MEASURES:
            values = np.array([np.nan if row.measures[key].value is None else row.measures[key].value for row in rows])
            drawn = np.stack([replicates[row.name][key] for row in rows]) if replicates else None
            measures[key] = with_interval(
                float(np.average(values, weights=weight)), None if drawn is None else np.average(drawn, axis=0, weights=weight)
            )
        averages[kind] = Row(
            name=f"{name} ({kind})",
            family=name,
            n_real=sum(row.n_real for row in rows),
            n_fake=sum(row.n_fake for row in rows),
            measures=measures,
        )
    return averages


def _ordered(rows: Sequence[Row]) -> list[str]:
    """Families in the order of the paper's tables, then any others."""
    known = ["GAN", "DM", "multi-step"]
    present = list(dict.fromkeys(row.family for row in rows))
    return [family for family in known if family in present] + [family for family in present if family not in known]


def _named(on_progress: Progress, split: str) -> Progress:
    return lambda done, total, message: on_progress(done, total, f"{message} {split}")

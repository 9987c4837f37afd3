"""A detector's results on a test split: every subset against the reals of its own source, families, all, and the worst subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from foreign.json_files import read_json
from foreign.progress import Progress, silent
from ntf_model.calibration import ERROR, Calibration, fit_calibration
from ntf_model.data.data import FAKE, DetectionData, Item
from ntf_model.data.loader import batches_of
from ntf_model.detector import Detector
from ntf_model.errors import InputError
from ntf_model.files import write_text
from ntf_model.judging.bootstrap import Measure, Sizes, bootstrap_counts, resample, with_interval
from ntf_model.judging.metrics import MEASURES, best_threshold, chance_ap, measure
from ntf_model.judging.reliability import Reliability, reliability

SMALL_CLASS = 100  # pictures; AP by chance is 0.512 at a hundred of each class, 0.521 at fifty, 0.573 at nine
HELD_OUT, TRAINED_ON = "held-out", "trained-on"
Transform = Callable[[np.ndarray], np.ndarray]


class Row(BaseModel):
    """One subset, or an average over several. `measures` has the keys of `ntf_model.judging.metrics.MEASURES`. `chance` is the AP of random
    scores on as many pictures (None where there is no AP)."""

    name: str
    family: str
    n_real: int
    n_fake: int
    measures: dict[str, Measure]
    chance: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether it has reals and fakes. A subset without reals has no AP, and is in no average."""
        return bool(self.n_real and self.n_fake)


class Scores(BaseModel):
    """What the detector said of each picture, column by column."""

    id: list[str]
    label: list[int]
    subset: list[str]
    score: list[float]


class Evaluation(BaseModel):
    """The results of one detector on one test split.

    `families` and `overall` are means over the subsets that have reals and fakes, "unweighted" or "weighted" by their number of fakes.
    `threshold` was fixed on the validation split. `worst` is the subset with the lowest value of `leading`; empty if none has one.
    `rehearsal` says that the detector was only tried out, and how; mostly empty. FPR and FNR count fake as positive: the paper's own tables
    have them the other way round.
    """

    detector: str
    title: str
    data_digest: str
    validation_digest: str
    threshold: float
    subsets: list[Row]
    families: dict[str, dict[str, Row]]  # family -> "unweighted" or "weighted"
    overall: dict[str, Row]
    worst: str
    bootstrap: int
    scores: Scores
    rehearsal: str = ""
    fpr: float | None = None
    validation: Scores | None = None
    calibration: Calibration | None = None
    reliability: Reliability | None = None
    trained_on: list[str] | None = None
    seen: list[str] | None = None
    exposure: dict[str, dict[str, Row]] = {}

    @property
    def leading(self) -> str:
        """The measure to look at first: "ap", or "auroc" where a class is small, because AP is then well above 0.5 by chance."""
        return leading_measure(self.subsets)

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
            return cls.model_validate(read_json(file))
        except OSError as error:
            raise InputError(f"cannot read the evaluation {file}: {error.strerror}", "Run `ntf evaluate` first") from None
        except ValueError:
            raise InputError(f"{file} is not an evaluation", "Give the JSON file that `ntf evaluate` wrote") from None


def worst_row(rows: Sequence[Row], key: str) -> Row | None:
    """The row with the worst value of a measure, which is the highest of an error rate; None if none has a value."""
    measured = [row for row in rows if row.measures[key].value is not None]
    sign = -1 if key in ("fpr", "fnr") else 1
    return min(measured, key=lambda row: sign * (row.measures[key].value or 0.0)) if measured else None


def leading_measure(rows: Sequence[Row]) -> str:
    """ "auroc" if a row has fewer than `SMALL_CLASS` pictures of a class, else "ap"."""
    return "auroc" if any(row.is_measured and min(row.n_real, row.n_fake) < SMALL_CLASS for row in rows) else "ap"


class Scored(NamedTuple):
    """Every picture of a split in its order: ids and P(fake), float64 `[N]`."""

    ids: list[str]
    scores: np.ndarray


class Basis(NamedTuple):
    """What the threshold and the probabilities of an evaluation rest on; the fields are those of `Evaluation`."""

    threshold: float
    calibration: Calibration | None = None
    validation: Scores | None = None
    fpr: float | None = None


def basis_of(threshold: float, calibration: Calibration | None, validation: Scores | None, fpr: float | None, digest: str = "") -> Basis:
    """The basis where there are validation scores: the threshold with the best balanced accuracy on them, or that of the wished FPR.
    Without any, the threshold and calibration that a detector was saved with.

    Raises InputError if the FPR cannot be had from so few validation reals, or there is no calibration to take it from.
    """
    if validation is not None:
        labels, scores = np.array(validation.label), np.array(validation.score)
        calibration = fit_calibration(labels, scores, digest)
        threshold = best_threshold(labels, scores)
    if fpr is not None:
        if calibration is None:
            raise InputError("no threshold for an FPR is known", "Evaluate on data with a validation split, or train the detector again")
        threshold = calibration.threshold_at(fpr)
    return Basis(threshold, calibration, validation, fpr)


def evaluate(
    detector: Detector,
    data: DetectionData,
    validation: DetectionData | None,
    *,
    transform: Transform | None = None,
    threshold: float | None = None,
    fpr: float | None = None,
    trained_on: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
    rehearsal: str = "",
    on_progress: Progress = silent,
) -> Evaluation:
    """Scores `data` and measures every subset in it.

    The threshold is chosen on `validation` unless given (robustness keeps one threshold over all degradations); with `fpr` it is the one
    at which at most that share of reals is called fake. Without `validation` it is the one that the detector has. `transform` is applied to
    each test picture first. `trained_on` are the subsets that the detector was trained on, None if nobody knows. `bootstrap` replicates
    draw pictures with replacement within each class of each subset; 0 leaves intervals out. Raises InputError if the data have no fakes or
    the detector gives a score that is no probability.
    """
    if not data.fake_subsets:
        raise InputError("there are no fakes to evaluate on", "Give a split that has some")
    digest = validation.digest if validation else ""
    if threshold is not None:
        basis = Basis(threshold)
    else:
        held_out = None
        if validation is not None:
            scored = score_data(detector, validation, batch_size=batch_size, on_progress=_named(on_progress, "validation"))
            held_out = as_columns(validation, scored)
        basis = basis_of(detector.threshold, detector.calibration, held_out, fpr, digest)
    scored = score_data(detector, data, transform=transform, batch_size=batch_size, on_progress=_named(on_progress, "test"))
    return summarise(
        data,
        scored,
        basis,
        name=detector.name,
        title=detector.title,
        validation_digest=digest,
        trained_on=trained_on,
        seen=trained_on,
        bootstrap=bootstrap,
        seed=seed,
        rehearsal=rehearsal,
    )


def as_columns(data: DetectionData, scored: Scored) -> Scores:
    """The scores of a split as columns."""
    return Scores(id=scored.ids, label=data.labels.tolist(), subset=data.subsets.tolist(), score=scored.scores.tolist())


def summarise(
    data: DetectionData,
    scored: Scored,
    basis: Basis | float,
    *,
    name: str,
    title: str,
    validation_digest: str = "",
    trained_on: Sequence[str] | None = None,
    seen: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    rehearsal: str = "",
) -> Evaluation:
    """The evaluation of scores that are there already, on a basis, or at a threshold alone. `rehearsal`, or that of the data, marks the
    title, so that every table says it."""
    basis = basis if isinstance(basis, Basis) else Basis(basis)
    rehearsal = rehearsal or str(data.origin.get("rehearsal", ""))
    threshold = basis.threshold
    replicates: dict[str, dict[str, np.ndarray]] = {}
    members_of = {subset: data.evaluated_rows(subset) for subset in data.fake_subsets}
    rows: list[Row] = []
    for subset, members in members_of.items():
        labels, scores = data.labels[members], scored.scores[members]
        values = measure(labels, scores, threshold)
        if bootstrap:
            replicates[subset] = resample(labels, scores, threshold, bootstrap_counts(data, members, bootstrap, seed))
        sizes = Sizes(int((labels == FAKE).sum()), int((labels != FAKE).sum()))
        drawn = replicates[subset] if bootstrap else {}
        rows.append(
            Row(
                name=subset,
                family=data.families.get(subset, "other"),
                n_real=sizes.reals,
                n_fake=sizes.fakes,
                measures={key: with_interval(values[key], drawn.get(key), sizes.behind(key)) for key in MEASURES},
                chance=_or_none(chance_ap(sizes.fakes, sizes.reals)),
            )
        )

    def averages(name: str, over: Sequence[Row]) -> dict[str, Row]:
        measured = [row for row in over if row.is_measured]
        members = np.unique(np.concatenate([members_of[row.name] for row in measured])) if measured else np.empty(0, np.int64)
        fakes = int((data.labels[members] == FAKE).sum())
        return _averages(name, measured, replicates, Sizes(fakes, len(members) - fakes))

    worst = worst_row(rows, leading_measure(rows))
    groups = {
        HELD_OUT: [row for row in rows if row.name not in (seen or ())],
        TRAINED_ON: [row for row in rows if row.name in (seen or ())],
    }
    everything = np.unique(np.concatenate([data.rows_of(subset) for subset in members_of])) if members_of else np.empty(0, np.int64)
    return Evaluation(
        detector=name,
        title=f"{title} (rehearsal)" if rehearsal else title,
        data_digest=data.digest,
        validation_digest=validation_digest,
        threshold=threshold,
        subsets=rows,
        families={family: averages(family, [row for row in rows if row.family == family]) for family in _ordered(rows)},
        overall=averages("all", rows),
        worst=worst.name if worst else "",
        bootstrap=bootstrap,
        scores=as_columns(data, scored),
        rehearsal=rehearsal,
        fpr=basis.fpr,
        validation=basis.validation,
        calibration=None if basis.validation else basis.calibration,
        reliability=basis.calibration
        and reliability(basis.calibration, data.labels[everything], scored.scores[everything], fpr=basis.fpr, error=ERROR),
        trained_on=None if trained_on is None else list(trained_on),
        seen=None if seen is None else list(seen),
        exposure={} if seen is None else {group: averages(group, over) for group, over in groups.items() if over},
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


def _averages(name: str, rows: Sequence[Row], replicates: dict[str, dict[str, np.ndarray]], sizes: Sizes) -> dict[str, Row]:
    """Means over subsets, unweighted and weighted by the number of fakes; nothing but None if there are none. `sizes` are those of all
    their pictures together, a real that several share once."""
    weights = {"unweighted": np.ones(len(rows)), "weighted": np.array([row.n_fake for row in rows], dtype=float)}
    averages = {}
    for kind, weight in weights.items():
        measures = {}
        for key in MEASURES:
            values = np.array([np.nan if row.measures[key].value is None else row.measures[key].value for row in rows])
            drawn = np.stack([replicates[row.name][key] for row in rows]) if replicates and rows else None
            measures[key] = with_interval(
                float(np.average(values, weights=weight)) if rows else float("nan"),
                None if drawn is None else np.average(drawn, axis=0, weights=weight),
                sizes.behind(key),
            )
        averages[kind] = Row(
            name=f"{name} ({kind})",
            family=name,
            n_real=sum(row.n_real for row in rows),
            n_fake=sum(row.n_fake for row in rows),
            measures=measures,
            chance=float(np.average([row.chance or 0.0 for row in rows], weights=weight)) if rows else None,
        )
    return averages


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _ordered(rows: Sequence[Row]) -> list[str]:
    """Families in the order of the paper's tables, then any others."""
    known = ["GAN", "DM", "multi-step"]
    present = list(dict.fromkeys(row.family for row in rows))
    return [family for family in known if family in present] + [family for family in present if family not in known]


def _named(on_progress: Progress, split: str) -> Progress:
    return lambda done, total, message: on_progress(done, total, f"{message} {split}")

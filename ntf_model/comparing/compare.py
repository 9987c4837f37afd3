"""Several detectors on the same pictures: scored together, beside scores that came from elsewhere, with what each of them costs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from foreign.json_files import read_json
from foreign.memory import release
from foreign.progress import Progress, silent
from ntf_model.comparing.in_turn import InTurn
from ntf_model.comparing.score_files import read_score_table
from ntf_model.comparing.standings import Standing, standings_of
from ntf_model.data.data import DetectionData, DetectionSplits
from ntf_model.data.loader import batches_of
from ntf_model.detector import Detector, DetectorConfig
from ntf_model.errors import InputError
from ntf_model.files import write_json
from ntf_model.judging.bootstrap import Measure, bootstrap_counts, difference_with_interval, resample
from ntf_model.judging.evaluate import Evaluation, Scored, Scores, Transform, as_columns, basis_of, probabilities, summarise
from ntf_model.judging.metrics import MEASURES
from ntf_model.networks import weights
from ntf_model.recipes.network import NetworkDetector
from ntf_model.registry import get_detector
from ntf_model.runs import COST_FILE, METRICS_FILE, RUN_FILE
from ntf_model.training.meter import Meter
from ntf_model.training.resume import check_record, is_first_process, read_record

REFERENCE = "ntf"  # whom the others are compared with


class Cost(BaseModel):
    """What a detector costs. None where it is not known: scores from elsewhere have no cost, a detector that was loaded may have no record
    of its training. Memory is the GPU's, or without one the whole process's."""

    model_config = ConfigDict(frozen=True)

    parameters: int | None = None
    images_per_second: float | None = None
    training_seconds: float | None = None
    training_memory: int | None = None  # bytes, at its peak


class Difference(BaseModel):
    """The reference minus another detector, averaged over subsets, from bootstrap replicates that draw the same pictures for both.

    `p` is the two-sided bootstrap probability of a difference of the other sign (or none).
    """

    model_config = ConfigDict(frozen=True)

    other: str
    measures: dict[str, Measure]
    p: dict[str, float | None]


class Comparison(BaseModel):
    """All detectors on one test split. `evaluations`, `costs` and `notes` are by the detectors' names, in the order of the tables."""

    data_digest: str
    evaluations: dict[str, Evaluation]
    costs: dict[str, Cost]
    notes: dict[str, str]
    reference: str | None
    differences: list[Difference]
    seconds: float
    standings: list[Standing] = []
    rehearsal: str = ""  # if its detectors were only tried out: how; else empty


@dataclass(frozen=True)
class Together:
    """What `score_together` found: scores in the order of the split, and the seconds that each detector needed without decoding."""

    ids: list[str]
    scores: dict[str, np.ndarray]
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Facts:
    """What a table says of a detector beside its scores; `kind` is its name in the registry."""

    kind: str
    title: str
    note: str
    threshold: float
    calibration: Any
    parameters: int | None


def _facts_of(detector: Detector) -> _Facts:
    kind, title, note = detector.name, detector.title, detector.note
    return _Facts(kind, title, note, detector.threshold, detector.calibration, count_parameters(detector))


def train_all(
    splits: DetectionSplits,
    configs: Mapping[str, DetectorConfig | None],
    output: Path,
    *,
    resume: bool = False,
    device: str | torch.device | None = None,
    on_progress: Progress = silent,
) -> InTurn:
    """Trains each detector of `configs` (a name of the registry each) in turn, in `output/NAME`, and records what it cost in `cost.json`.
    Each is let go before the next is trained.

    With `resume`, a folder whose training has ended is loaded, and one that stopped goes on. InputError if the detector in a folder was
    trained on other data or with other settings.
    """
    for name, config in configs.items():
        folder = output / name
        release()
        if resume and (folder / COST_FILE).is_file():
            check_record(folder, read_record(folder / RUN_FILE), name, splits, config)
            continue
        with Meter(device) as meter:
            get_detector(name).fit(splits, config, folder, resume=resume, device=device, on_progress=on_progress)
        if is_first_process():
            write_json(folder / COST_FILE, {"training_seconds": meter.seconds, "training_memory": meter.peak_memory})
    return InTurn({name: output / name for name in configs}, device)


def compare(
    detectors: Mapping[str, Detector],
    data: DetectionData,
    validation: DetectionData | None,
    *,
    scores: Mapping[str, Path] | None = None,
    known: Collection[str] | None = None,
    training: Mapping[str, Cost] | None = None,
    rehearsals: Mapping[str, str] | None = None,
    trained_on: Mapping[str, Sequence[str] | None] | None = None,
    fpr: float | None = None,
    transform: Transform | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Comparison:
    """Evaluates `detectors` and `scores` (files of `read_scores`, by the name for the table) on `data`.

    Each detector's threshold is fixed on `validation`, or is the one that it was saved with if there is none; a file of scores that names
    the pictures of `validation` too gets one the same way, otherwise 0.5. `known` are the ids that such a file may name. Every picture is
    decoded once, and prepared once for all detectors that prepare it alike. `training` adds what `read_cost` knows of their training, and
    `rehearsals` says how detectors were only tried out, and `trained_on` on which subsets each was trained. A subset that one of them was
    trained on is in the means over trained-on subsets for all of them, so that these means are of the same subsets. With `fpr` thresholds
    are those at which at most that share of reals is called fake. The reference of the differences is NTF, or the first if it is not there.
    """
    started = time.perf_counter()
    if not data.fake_subsets:
        raise InputError("there are no fakes to compare on", "Give a split that has some")
    tables = _read_tables(scores or {}, detectors, data.picture_ids() if scores else [], known)  # before anything that takes long
    held_out = score_together(detectors, validation, on_progress=on_progress) if validation and detectors else None
    held: Any = held_out  # where there is a validation split
    test = score_together(detectors, data, transform=transform, on_progress=on_progress) if detectors else Together([], {}, {})
    known_subsets = {name: (trained_on or {}).get(name) for name in [*detectors, *tables]}
    digest = validation.digest if validation else ""
    common: dict[str, Any] = {
        "validation_digest": digest,
        "seen": seen_by_any(known_subsets.values(), data),
        "bootstrap": bootstrap,
        "seed": seed,
    }
    evaluations, costs, notes, kinds = {}, {}, {}, {}
    for name in detectors:
        facts = _facts_of(detectors[name])  # no reference to the detector is kept, so that `InTurn` can free it before it loads the next
        held_scores = as_columns(validation, Scored(held.ids, held.scores[name])) if validation else None
        basis = basis_of(facts.threshold, facts.calibration, held_scores, fpr, digest)
        scored = Scored(test.ids, test.scores[name])
        options = {"rehearsal": (rehearsals or {}).get(name, ""), "trained_on": known_subsets[name], **common}
        evaluations[name] = summarise(data, scored, basis, name=name, title=facts.title, **options)
        cost = (training or {}).get(name, Cost())
        rate = len(data) / max(test.seconds[name], 1e-9)
        costs[name] = cost.model_copy(update={"parameters": facts.parameters, "images_per_second": rate})
        notes[name], kinds[name] = facts.note, facts.kind
    ids = data.picture_ids() if tables else []
    for name, table in tables.items():
        basis = basis_of(0.5, None, _held_scores(name, table, validation) if validation else None, fpr, digest)
        scored = Scored(ids, np.array([table[picture] for picture in ids]))
        evaluations[name] = summarise(data, scored, basis, name=name, title=name, trained_on=known_subsets[name], **common)
        costs[name], notes[name] = Cost(), f"scores from {Path((scores or {})[name]).name}"
    comparison = compared(data, evaluations, costs=costs, notes=notes, kinds=kinds, bootstrap=bootstrap, seed=seed)
    return comparison.model_copy(update={"seconds": time.perf_counter() - started})


def compared(
    data: DetectionData,
    evaluations: dict[str, Evaluation],
    *,
    costs: dict[str, Cost],
    notes: dict[str, str],
    kinds: Mapping[str, str],
    bootstrap: int,
    seed: int,
) -> Comparison:
    """The comparison of evaluations on one test split, which need no pictures any more. `kinds` are the detectors' names in the
    registry."""
    reference = next(iter([*(name for name in evaluations if REFERENCE in (name, kinds.get(name))), *evaluations]), None)
    differences = []
    if reference is not None and bootstrap:
        others = {name: evaluation for name, evaluation in evaluations.items() if name != reference}
        differences = [
            paired_difference(data, evaluations[reference], other, bootstrap, seed).model_copy(update={"other": name})
            for name, other in others.items()
        ]
    return Comparison(
        data_digest=data.digest,
        evaluations=evaluations,
        costs=costs,
        notes=notes,
        reference=reference,
        differences=differences,
        seconds=0.0,
        standings=standings_of(data, evaluations, bootstrap, seed) if evaluations else [],
        rehearsal=next((evaluation.rehearsal for evaluation in evaluations.values() if evaluation.rehearsal), ""),
    )


def score_together(
    detectors: Mapping[str, Detector],
    data: DetectionData,
    *,
    transform: Transform | None = None,
    batch_size: int = 64,
    on_progress: Progress = silent,
) -> Together:
    """Every picture's score by every detector, each picture decoded once.

    Detectors whose `preprocess` is equal share the prepared tensors as well; its time counts for each of them. Detectors that are in memory
    in turn are asked one after the other, each for all pictures.
    """
    if isinstance(detectors, InTurn):
        single: Any = {"transform": transform, "batch_size": batch_size, "on_progress": on_progress}
        return _joined([score_together({name: detectors[name]}, data, **single) for name in detectors])
    ids: list[str] = []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in detectors}
    seconds = dict.fromkeys(detectors, 0.0)
    for items in batches_of(data, batch_size):
        images = [item.image if transform is None else transform(item.image) for item in items]
        prepared: dict[Any, tuple[list[torch.Tensor], float]] = {}
        for name, detector in detectors.items():
            started = time.perf_counter()
            if isinstance(detector, NetworkDetector):
                key = detector.preprocess
                if key not in prepared:
                    tensors = [key(image) for image in images]
                    prepared[key] = tensors, time.perf_counter() - started
                    started = time.perf_counter()
                seconds[name] += prepared[key][1]
                scores = detector.score_tensors(prepared[key][0])
            else:
                scores = detector.score(images)
            seconds[name] += time.perf_counter() - started
            parts[name].append(probabilities(scores, items, name))
        ids += [item.id for item in items]
        on_progress(len(ids), len(data), "scoring")
    return Together(ids, {name: np.concatenate(scores) for name, scores in parts.items()}, seconds)


def _joined(parts: Sequence[Together]) -> Together:
    """What detectors found that scored the same pictures one after the other."""
    scores = {name: found for part in parts for name, found in part.scores.items()}
    return Together(parts[0].ids if parts else [], scores, {name: spent for part in parts for name, spent in part.seconds.items()})


def paired_difference(data: DetectionData, reference: Evaluation, other: Evaluation, bootstrap: int, seed: int) -> Difference:
    """The reference minus `other`: the unweighted mean over subsets of each measure, with a 95 % interval from paired replicates."""
    points, drawn = [], []
    for subset in data.fake_subsets:
        if not reference.row(subset).is_measured:  # without reals there is no AP
            continue
        members = data.evaluated_rows(subset)
        labels, counts = data.labels[members], bootstrap_counts(data, members, bootstrap, seed)
        pair = [
            resample(labels, np.array(evaluation.scores.score)[members], evaluation.threshold, counts) for evaluation in (reference, other)
        ]
        drawn.append({key: pair[0][key] - pair[1][key] for key in MEASURES})
        rows = reference.row(subset).measures, other.row(subset).measures
        points.append({key: _minus(rows[0][key].value, rows[1][key].value) for key in MEASURES})
    measures: dict[str, Measure] = {}
    p: dict[str, float | None] = {}
    for key in MEASURES:
        value = float(np.mean([row[key] for row in points])) if points else float("nan")
        samples = np.mean([row[key] for row in drawn], axis=0) if drawn else np.empty(0)
        measures[key] = difference_with_interval(value, samples)
        tail = min(np.sum(samples <= 0), np.sum(samples >= 0))
        p[key] = None if np.isnan(value) else float(min(1.0, 2 * (1 + tail) / (1 + len(samples))))
    return Difference(other=other.detector, measures=measures, p=p)


def seen_by_any(trained_on: Iterable[Sequence[str] | None], data: DetectionData) -> list[str] | None:
    """The subsets of `data` that any of several detectors was trained on; None if nothing is known of any of them."""
    known = [names for names in trained_on if names is not None]
    return [name for name in data.fake_subsets if any(name in names for names in known)] if known else None


def read_cost(folder: Path | str) -> Cost:
    """What is recorded of a training run: `cost.json`, or the `seconds` and `peak_memory` of its `metrics.json`; otherwise nothing."""
    folder = Path(folder)
    for name, seconds, memory in ((COST_FILE, "training_seconds", "training_memory"), (METRICS_FILE, "seconds", "peak_memory")):
        try:
            values = read_json(folder / name)
        except (OSError, ValueError):
            continue
        if values.get(seconds) is not None:
            return Cost(training_seconds=values[seconds], training_memory=values.get(memory))
    return Cost()


def count_parameters(detector: Detector) -> int | None:
    """Of its network, frozen ones included; None for a detector without one."""
    network = getattr(detector, "network", None)
    return weights.count_parameters(network) if isinstance(network, nn.Module) else None


def _read_tables(
    scores: Mapping[str, Path], detectors: Mapping[str, Detector], ids: Sequence[str], known: Collection[str] | None
) -> dict[str, dict[str, float]]:
    """The files of scores, each with a score of every picture in `ids`."""
    for name in scores.keys() & detectors.keys():
        raise InputError(f"there are two detectors called {name!r}", f"Give the scores of {scores[name]} another name")
    return {name: read_score_table(Path(file), ids, known) for name, file in scores.items()}


def _held_scores(name: str, table: Mapping[str, float], validation: DetectionData) -> Scores | None:
    """The table's scores of the validation pictures, by their whole ids; None if it has none of them. InputError if it has some."""
    ids = validation.picture_ids()
    there = [picture in table for picture in ids]
    if not any(there):
        return None
    if not all(there):
        missing = ids[there.index(False)]
        raise InputError(
            f"the scores {name!r} have {sum(there)} of the {len(ids)} validation pictures, and not {missing!r}",
            "Score all of them, or none",
        )
    return as_columns(validation, Scored(ids, np.array([table[picture] for picture in ids])))


def _minus(a: float | None, b: float | None) -> float:
    return float("nan") if a is None or b is None else a - b

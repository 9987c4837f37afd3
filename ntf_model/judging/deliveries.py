"""Detectors on pictures as they are met: clean, and after each delivery, side by side, at the threshold that clean validation fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from foreign.progress import Progress, silent
from ntf_model.data.data import DetectionData
from ntf_model.detector import Detector
from ntf_model.judging.bootstrap import Measure
from ntf_model.judging.evaluate import Evaluation, Row, evaluate
from ntf_model.judging.tables import LABELS, Cell, Figure, Table, in_order

CLEAN = "clean"
SHOWN = ("ap", "auroc", "acc_fixed", "fpr", "fnr")


class DeliveredResult(BaseModel):
    """One detector on the pictures of one delivery ("clean": as they are): the unweighted mean over subsets, and each subset's row."""

    delivery: str
    overall: dict[str, Measure]
    subsets: list[Row]


class DeliveredDetector(BaseModel):
    """One detector at one threshold, "clean" first."""

    name: str
    title: str
    threshold: float
    results: list[DeliveredResult]


class DeliveredResults(BaseModel):
    """All detectors that were evaluated on the deliveries of a dataset. `leading` is the measure to look at first."""

    detectors: list[DeliveredDetector]
    leading: str
    rehearsal: str = ""

    @property
    def deliveries(self) -> list[str]:
        """Their names, "clean" first."""
        return [result.delivery for result in self.detectors[0].results] if self.detectors else []


def on_deliveries(
    detector: Detector, clean: Evaluation, delivered: Mapping[str, DetectionData], on_progress: Progress = silent
) -> dict[str, Evaluation]:
    """The evaluation of a detector on each delivery, by name, at the threshold of its `clean` evaluation."""
    return {
        name: evaluate(
            detector, data, data, threshold=clean.threshold, bootstrap=clean.bootstrap, rehearsal=clean.rehearsal, on_progress=on_progress
        )
        for name, data in delivered.items()
    }


def side_by_side(evaluations: Mapping[str, Mapping[str, Evaluation]]) -> DeliveredResults:
    """What evaluations say, by detector and by delivery, the clean ones under `CLEAN` and first."""
    detectors = []
    for name, own in evaluations.items():
        clean = own[CLEAN]
        results = [
            DeliveredResult(delivery=delivery, overall=evaluation.overall["unweighted"].measures, subsets=evaluation.subsets)
            for delivery, evaluation in sorted(own.items(), key=lambda pair: pair[0] != CLEAN)
        ]
        detectors.append(DeliveredDetector(name=name, title=clean.title, threshold=clean.threshold, results=results))
    first = next(iter(evaluations.values()))[CLEAN]
    return DeliveredResults(detectors=detectors, leading=first.leading, rehearsal=first.rehearsal)


def delivery_table(results: DeliveredResults) -> Table:
    """A row for each detector, and under it one for each subset; columns by delivery. In per cent, with intervals."""
    keys = in_order(SHOWN, results.leading)
    rows: list[list[Cell]] = []
    for detector in results.detectors:
        rows.append([detector.title, "mean", *_cells([result.overall for result in detector.results], keys)])
        for place, subset in enumerate(detector.results[0].subsets):
            of_subset = [result.subsets[place].measures for result in detector.results if place < len(result.subsets)]
            rows.append([detector.title, subset.name, *_cells(of_subset, keys)])
    header = ["detector", "subset", *(LABELS[key] for _ in results.deliveries for key in keys)]
    groups = [("", 2), *((name, len(keys)) for name in results.deliveries)]
    thresholds = ", ".join(f"{detector.title} {detector.threshold:.3f}" for detector in results.detectors)
    note = f"Per cent, with 95 % intervals. ACC at the threshold that validation on clean pictures fixed ({thresholds}), never another one."
    return Table("Results on clean and on delivered pictures", header, rows, groups, note, results.rehearsal)


def _cells(measured: Sequence[Mapping[str, Measure]], keys: Sequence[str]) -> list[Cell]:
    return [Figure(measures[key], interval=True) for measures in measured for key in keys]

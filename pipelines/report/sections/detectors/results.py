"""Every detector's table, and behind it the ROC curve and the scores of each subset."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from pipelines.report import charts
from pipelines.report.inputs import Data
from pipelines.report.source import Section, Source
from pipelines.report.words import CHANCE

MEASURES = {
    "ap": "AP",
    "acc": "ACC",
    "fpr": "FPR",
    "fnr": "FNR",
    "acc_fixed": "ACC at the validation threshold",
    "auroc": "AUROC",
    "tpr_at_fpr_1": "TPR at 1 % FPR",
}

Z = 1.959964  # of a 95 % interval


def view(source: Source) -> dict[str, Any] | None:
    if not source.inputs.runs:
        return None
    return {"measures": MEASURES, "detectors": [_detector(source, run.evaluation) for run in source.inputs.runs]}


def _detector(source: Source, evaluation: Data) -> dict[str, Any]:
    averages = [row for family in evaluation["families"].values() for row in family.values()]
    exposure = [row for group in evaluation.get("exposure", {}).values() for row in group.values()]
    means = [*averages, *exposure, *evaluation["overall"].values()]
    return {
        "title": evaluation["title"],
        "threshold": evaluation["threshold"],
        "worst": evaluation["worst"],
        "rehearsal": evaluation.get("rehearsal", ""),
        "rows": [_drawn(row) for row in evaluation["subsets"]],
        "means": [_drawn(row) for row in means],
        "chance": CHANCE,
        "fpr": evaluation.get("fpr"),
        "reliability": _reliability(evaluation),
        "cards": _cards(source, evaluation),
    }


def _drawn(row: Data) -> dict[str, Any]:
    """A row with its AP drawn beside what random scores have."""
    chance = row.get("chance")
    return {**row, "chance": chance, "drawn": charts.interval(row["measures"]["ap"], 0.5 if chance is None else chance)}


def _reliability(evaluation: Data) -> dict[str, Any] | None:
    """Calibration, thresholds by wish and the band, with the diagram; None in results that have none."""
    measured = evaluation.get("reliability")
    if not measured:
        return None
    said = f"ECE {measured['ece']:.3f}, of the scores as they are {measured['ece_scores']:.3f}"
    diagram = charts.reliability(measured["bins"], f"Reliability diagram of {evaluation['title']}: {said}")
    shares = [("reals called fake", "real_as_fake"), ("fakes called real", "fake_as_real"), ("unsure reals", "unsure_reals")]
    shares.append(("unsure fakes", "unsure_fakes"))
    return {**measured, "diagram": diagram, "shares": [(name, measured["band"][key]) for name, key in shares]}


def _cards(source: Source, evaluation: Data) -> list[dict[str, Any]]:
    """ROC curve and histogram of each subset, against all test reals of its sources."""
    scores = evaluation["scores"]
    labels, values, names = np.array(scores["label"]), np.array(scores["score"]), np.array(scores["subset"])
    subsets = source.manifest.subsets
    cards = []
    for row in evaluation["subsets"]:
        reals = subsets[row["name"]].reals if row["name"] in subsets else ()
        members = ((labels == 1) & (names == row["name"])) | ((labels == 0) & np.isin(names, reals))
        if not members.any():
            continue
        title = f"{evaluation['title']} on {row['name']}"
        own, shown = labels[members], values[members]
        area = _area(own, shown)
        said = "" if area["value"] is None else f", area {area['value']:.2f}"
        medians = " and ".join(f"{name} median {np.median(shown[own == label]):.2f}" for label, name in ((0, "real"), (1, "fake")))
        cards.append(
            {
                "name": row["name"],
                "roc": charts.roc(own, shown, f"ROC curve of {title}{said}", area, evaluation["threshold"]),
                "histogram": charts.score_histogram(own, shown, evaluation["threshold"], f"Scores of {title}: {medians}"),
            }
        )
    return cards


def _area(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """The AUROC of a drawn curve, with Wilson's 95 % interval for as many pictures as the smaller class has: careful, and never empty.

    The table's AUROC is of as many reals as fakes, and so is not that of the curve.
    """
    count = min(int((labels == 1).sum()), int((labels == 0).sum()))
    if not count:
        return {"value": None, "low": None, "high": None}
    value = float(roc_auc_score(labels, scores))
    middle, spread = value + Z**2 / (2 * count), Z * np.sqrt(value * (1 - value) / count + Z**2 / (4 * count**2))
    low, high = ((middle + sign * spread) / (1 + Z**2 / count) for sign in (-1, 1))
    return {"value": value, "low": float(low), "high": float(high)}


SECTION = Section(
    "detectors", "Detectors", view, "`ntf train {dataset}`, `ntf evaluate {dataset}`, then `ntf report {dataset} --runs runs/ntf`"
)

"""How a detector holds when pictures are degraded (Fig. 5 of the paper): blur, JPEG, noise, scaling, all at one threshold."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from foreign.progress import Progress, silent
from ntf_model.data.data import DetectionData
from ntf_model.data.images import gaussian_blur, jpeg_compress
from ntf_model.detector import Detector
from ntf_model.files import written_whole
from ntf_model.judging.bootstrap import Measure
from ntf_model.judging.evaluate import Row, evaluate
from ntf_model.judging.tables import LABELS, Cell, Figure, Table

STRENGTHS: dict[str, tuple[float, ...]] = {
    "blur": (0.5, 1.0, 2.0, 3.0),  # sigma, pixels
    "jpeg": (95, 85, 75, 50, 30),  # quality
    "noise": (2, 5, 10, 20),  # standard deviation, grey levels
    "scaling": (0.8, 0.6, 0.4, 0.2),  # factor
}
UNITS = {"blur": "sigma (px)", "jpeg": "quality", "noise": "std (grey levels)", "scaling": "factor"}
SHOWN = ("ap", "auroc", "acc_fixed", "fpr", "fnr", "tpr_at_fpr_5")


class Point(BaseModel):
    """One operation at one strength: the unweighted mean over subsets, and each subset's row."""

    operation: str
    strength: float
    overall: dict[str, Measure]
    subsets: list[Row]


class Robustness(BaseModel):
    """All points of one detector, the untouched pictures first (operation "none")."""

    detector: str
    title: str
    threshold: float
    points: list[Point]
    rehearsal: str = ""

    def curve(self, operation: str, measure: str = "ap") -> list[tuple[float, Measure]]:
        """(strength, measure) along one operation, from mild to severe."""
        return [(point.strength, point.overall[measure]) for point in self.points if point.operation == operation]


def add_noise(image: np.ndarray, std: float) -> np.ndarray:
    """Gaussian noise of `std` grey levels on `uint8` `[H, W, 3]`. It follows from the picture itself, so that it can be made again."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image).tobytes()))
    return np.clip(np.rint(image + rng.normal(0.0, std, image.shape)), 0, 255).astype(np.uint8)


def scale(image: np.ndarray, factor: float) -> np.ndarray:
    """`uint8` `[H, W, 3]` made smaller by `factor`, bilinear with antialiasing; at least 8 pixels a side are left."""
    height, width = (max(8, round(side * factor)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


OPERATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "blur": gaussian_blur,
    "jpeg": lambda image, quality: jpeg_compress(image, int(quality)),
    "noise": add_noise,
    "scaling": scale,
}


def degraded(image: np.ndarray, operation: str, strength: float) -> np.ndarray:
    """One picture after one of `OPERATIONS`."""
    return OPERATIONS[operation](image, strength)


def robustness(
    detector: Detector,
    data: DetectionData,
    validation: DetectionData,
    *,
    strengths: Mapping[str, Sequence[float]] = STRENGTHS,
    bootstrap: int = 1000,
    rehearsal: str = "",
    on_progress: Progress = silent,
) -> Robustness:
    """Evaluates `detector` on `data` untouched and under every operation and strength, at the threshold fixed on the untouched
    validation split."""
    plain = evaluate(detector, data, validation, bootstrap=bootstrap, rehearsal=rehearsal)
    points = [Point(operation="none", strength=0, overall=plain.overall["unweighted"].measures, subsets=plain.subsets)]
    total = sum(map(len, strengths.values()))
    for operation, values in strengths.items():
        for strength in values:
            on_progress(len(points) - 1, total, f"{operation} {strength:g}")
            evaluation = evaluate(
                detector,
                data,
                validation,
                transform=partial(degraded, operation=operation, strength=strength),
                threshold=plain.threshold,
                bootstrap=bootstrap,
            )
            points.append(
                Point(
                    operation=operation,
                    strength=strength,
                    overall=evaluation.overall["unweighted"].measures,
                    subsets=evaluation.subsets,
                )
            )
    on_progress(total, total, "robustness")
    return Robustness(detector=detector.name, title=plain.title, threshold=plain.threshold, points=points, rehearsal=plain.rehearsal)


def robustness_table(measured: Robustness) -> Table:
    """A row for each operation and strength."""
    rows: list[list[Cell]] = [
        [point.operation, f"{point.strength:g}" if point.strength else "–", *(Figure(point.overall[key], True) for key in SHOWN)]
        for point in measured.points
    ]
    note = (
        "Per cent, unweighted means over subsets, with 95 % Wilson intervals, the same as those of `ntf evaluate`. "
        f"One threshold throughout: {measured.threshold:.3f}."
    )
    return Table(
        f"{measured.title}: robustness",
        ["operation", "strength", *(LABELS[key] for key in SHOWN)],
        rows,
        note=note,
        rehearsal=measured.rehearsal,
    )


def robustness_figure(detectors: Sequence[Robustness], file: Path, measure: str = "ap") -> None:
    """Curves of all detectors, one panel for each operation, the untouched pictures as the first point; bands are the intervals."""
    from matplotlib.figure import Figure

    operations = list(dict.fromkeys(point.operation for point in detectors[0].points if point.operation != "none"))
    figure = Figure(figsize=(3.4 * len(operations), 3.2), layout="constrained")
    panels = figure.subplots(1, len(operations), sharey=True, squeeze=False)[0]
    for panel, operation in zip(panels, operations, strict=True):
        for detector in detectors:
            points = [(0.0, detector.curve("none", measure)[0][1]), *detector.curve(operation, measure)]
            places = range(len(points))
            line = panel.plot(places, [_value(point.value) for _, point in points], marker="o", markersize=3, label=detector.title)[0]
            low, high = ([_value(getattr(point, end)) for _, point in points] for end in ("low", "high"))
            panel.fill_between(places, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            panel.set_xticks(list(places), ["none", *(f"{strength:g}" for strength, _ in points[1:])])
        panel.set_title(operation)
        panel.set_xlabel(UNITS.get(operation, ""))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{LABELS[measure]} (%)")
    panels[0].legend(fontsize=8)
    with written_whole(file) as partial:
        figure.savefig(partial, dpi=130)


def _value(value: float | None) -> float:
    return float("nan") if value is None else 100 * value

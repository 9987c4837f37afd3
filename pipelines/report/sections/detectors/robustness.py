"""How the detectors hold when images are degraded: curves, and the numbers behind them."""

from __future__ import annotations

from typing import Any

from pipelines.report import charts
from pipelines.report.inputs import Data
from pipelines.report.source import Section, Source

UNITS = {"blur": "sigma, px", "jpeg": "quality", "noise": "standard deviation, grey levels", "scaling": "factor"}
NAMES = {"blur": "Blur", "jpeg": "JPEG", "noise": "Noise", "scaling": "Scaling"}


def view(source: Source) -> dict[str, Any] | None:
    measured = [run.robustness for run in source.inputs.runs if run.robustness]
    if not measured:
        return None
    operations = list(dict.fromkeys(point["operation"] for point in measured[0]["points"] if point["operation"] != "none"))
    titles = _titles([robustness["title"] for robustness in measured])
    series = {
        title: {operation: _curve(robustness, operation) for operation in operations}
        for title, robustness in zip(titles, measured, strict=True)
    }
    return {
        "panels": [_panel(operation, {title: curves[operation] for title, curves in series.items()}) for operation in operations],
        "legend": [(charts.legend_mark(number), title) for number, title in enumerate(titles)],
        "thresholds": [(title, robustness["threshold"]) for title, robustness in zip(titles, measured, strict=True)],
    }


def _titles(titles: list[str]) -> list[str]:
    """With a number behind those that several detectors share."""
    return [f"{title} ({titles[: place + 1].count(title)})" if titles.count(title) > 1 else title for place, title in enumerate(titles)]


def _curve(robustness: Data, operation: str) -> list[tuple[float, Data]]:
    """(strength, mean measures) along one operation, the untouched images first."""
    return [(point["strength"], point["overall"]) for point in robustness["points"] if point["operation"] in ("none", operation)]


def _panel(operation: str, curves: dict[str, list[tuple[float, Data]]]) -> dict[str, Any]:
    name, unit = NAMES.get(operation, operation), UNITS.get(operation, "")
    first = next(iter(curves.values()))
    ticks = ["none", *(f"{strength:g}" for strength, _ in first[1:])]
    measures = {title: [overall["ap"] for _, overall in curve] for title, curve in curves.items()}
    ends = "; ".join(f"{title} from {_said(curve[0])} to {_said(curve[-1])}" for title, curve in measures.items())
    drawn = charts.curves(measures, ticks, f"Mean AP under {name.lower()}, {unit}: {ends}", unit, "mean AP, %")
    rows = [(title, tick, overall) for title, curve in curves.items() for tick, (_, overall) in zip(ticks, curve, strict=True)]
    return {"name": name, "unit": unit, "drawn": drawn, "rows": rows}


def _said(measure: Data) -> str:
    return "unknown" if measure["value"] is None else f"{100 * measure['value']:.0f} %"


SECTION = Section("robustness", "Robustness", view, "`ntf robustness {dataset} --run runs/ntf`, then this page again")

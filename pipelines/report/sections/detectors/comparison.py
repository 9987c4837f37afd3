"""Several detectors on the same test images: what each costs, its means, every subset, and how far it lies from the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.report.inputs import Data
from pipelines.report.sections.detectors.results import MEASURES
from pipelines.report.source import Section, Source
from pipelines.report.words import CHANCE


def view(source: Source) -> dict[str, Any] | None:
    comparison = source.inputs.comparison
    if comparison is None:
        return None
    names = [detector["name"] for detector in comparison["detectors"]]
    means = [column for column in comparison["columns"] if column not in comparison["families"]]
    subsets = [column for column in comparison["columns"] if column in comparison["families"]]
    return {
        "detectors": comparison["detectors"],
        "means": means,
        "chance": [comparison.get("chance", {}).get(column) for column in means],
        "rehearsal": comparison.get("rehearsal", ""),
        "mean_rows": _table(comparison, names, means, "ap"),
        "tables": [
            {
                "title": MEASURES.get(key, key),
                "columns": subsets + means,
                "rows": _table(comparison, names, subsets + means, key),
                "chance": _chance(comparison, key, subsets + means),
            }
            for key in comparison["measures"]
        ],
        "paired": comparison["paired"],
        "measures": [(key, MEASURES.get(key, key)) for key in ("ap", "auroc", "acc_fixed", "tpr_at_fpr_1")],
        "titles": {detector["name"]: detector["title"] for detector in comparison["detectors"]},
    }


def _chance(comparison: Data, key: str, columns: Sequence[str]) -> list[float | None] | None:
    """What random scores have in each column; None where that depends on more than the measure."""
    if key == "ap":
        return [comparison.get("chance", {}).get(column) for column in columns]
    return [CHANCE[key]] * len(columns) if key in CHANCE else None


def _table(comparison: Data, names: Sequence[str], columns: Sequence[str], key: str) -> list[list[dict[str, Any]]]:
    """Cells by detector, each a measure with its `place`: 1 for the best of its column, 2 for the second best, 0 for the others."""
    lower = key in comparison["lower_is_better"]
    rows: list[list[dict[str, Any]]] = [[] for _ in names]
    for column in columns:
        cells = [comparison["cells"][name][column][key] for name in names]
        shown = [None if cell["value"] is None else round(100 * cell["value"], 1) for cell in cells]
        ranked = sorted({value for value in shown if value is not None}, reverse=not lower)
        places = {value: place for place, value in enumerate(ranked[:2], 1)} if len(ranked) > 1 else {}
        for row, cell, value in zip(rows, cells, shown, strict=True):
            row.append({**cell, "place": places.get(value, 0)})
    return rows


SECTION = Section(
    "comparison", "Comparison", view, "`ntf compare {dataset} --output runs/compare`, then `ntf report {dataset} --compare runs/compare`"
)

"""Several detectors on the same test images: what each costs, its means, every subset, and how far it lies from the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.report.inputs import Data
from pipelines.report.sections.detectors.results import MEASURES
from pipelines.report.source import Section, Source


def view(source: Source) -> dict[str, Any] | None:
    found = source.inputs.comparison
    if found is None:
        return None
    names = [each["name"] for each in found["detectors"]]
    means = [column for column in found["columns"] if column not in found["families"]]
    subsets = [column for column in found["columns"] if column in found["families"]]
    return {
        "detectors": found["detectors"],
        "means": means,
        "mean_rows": _table(found, names, means, "ap"),
        "tables": [
            {"title": MEASURES.get(key, key), "columns": subsets + means, "rows": _table(found, names, subsets + means, key)}
            for key in found["measures"]
        ],
        "paired": found["paired"],
        "measures": [(key, MEASURES.get(key, key)) for key in ("ap", "auroc", "acc_fixed", "tpr_at_fpr_1")],
        "titles": {each["name"]: each["title"] for each in found["detectors"]},
    }


def _table(found: Data, names: Sequence[str], columns: Sequence[str], key: str) -> list[list[dict[str, Any]]]:
    """Cells by detector, each a measure with its `place`: 1 for the best of its column, 2 for the second best, 0 for the others."""
    lower = key in found["lower_is_better"]
    rows: list[list[dict[str, Any]]] = [[] for _ in names]
    for column in columns:
        cells = [found["cells"][name][column][key] for name in names]
        shown = [None if cell["value"] is None else round(100 * cell["value"], 1) for cell in cells]
        ranked = sorted({value for value in shown if value is not None}, reverse=not lower)
        places = {value: place for place, value in enumerate(ranked[:2], 1)} if len(ranked) > 1 else {}
        for row, cell, value in zip(rows, cells, shown, strict=True):
            row.append({**cell, "place": places.get(value, 0)})
    return rows


SECTION = Section(
    "comparison", "Comparison", view, "`ntf compare {dataset} --output runs/compare`, then `ntf report {dataset} --compare runs/compare`"
)

"""NTF without each of its parts, and the ordinary classifier on the same data."""

from __future__ import annotations

from typing import Any

from pipelines.report import charts
from pipelines.report.sections.detectors.results import MEASURES
from pipelines.report.source import Section, Source

SHOWN = ("ap", "auroc", "acc_fixed")


def view(source: Source) -> dict[str, Any] | None:
    ablation = source.inputs.ablation
    if ablation is None or not ablation["results"]:
        return None
    rows = []
    for result in ablation["results"]:
        values = result["unseen"] or result["overall"]
        gain = None if result["gain"] is None else result["gain"]["ap"]
        rows.append({**result, "values": values, "gain": gain, "drawn": charts.interval(values["ap"])})
    return {"rows": rows, "measures": [(key, MEASURES[key]) for key in SHOWN], "seeds": len(ablation["results"][0]["seeds"])}


SECTION = Section(
    "ablation", "Ablation", view, "`ntf ablate {dataset} --output runs/ablation`, then `ntf report {dataset} --ablation runs/ablation`"
)

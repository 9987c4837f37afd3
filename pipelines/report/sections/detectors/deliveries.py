"""The detectors on clean pictures and on pictures as they are met: every delivery, side by side."""

from __future__ import annotations

from typing import Any

from pipelines.report.source import Section, Source

MEASURES = (("ap", "AP"), ("auroc", "AUROC"), ("acc_fixed", "ACC at the threshold"))


def view(source: Source) -> dict[str, Any] | None:
    detectors = [detector for run in source.inputs.runs if run.deliveries for detector in run.deliveries["detectors"]]
    if not detectors:
        return None
    names = list(dict.fromkeys(result["delivery"] for detector in detectors for result in detector["results"]))
    rows = [
        {
            "title": detector["title"],
            "threshold": detector["threshold"],
            "cells": [by_name[name]["overall"] if name in by_name else None for name in names],
        }
        for detector in detectors
        for by_name in [{result["delivery"]: result for result in detector["results"]}]
    ]
    recipes = {
        name: ", then ".join(part if isinstance(part, str) else "a step of its own" for part in chain)
        for name, chain in source.manifest.deliveries.items()
        if name in names
    }
    return {"names": names, "rows": rows, "measures": MEASURES, "recipes": recipes}


HINT = "`ntf build MANIFEST --delivery web`, then `ntf evaluate {dataset}`, then this page again"
SECTION = Section("deliveries", "Deliveries", view, HINT)

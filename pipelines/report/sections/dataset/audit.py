"""The shortcut audit: whether fake can be told from real by what has nothing to do with forgery."""

from __future__ import annotations

from typing import Any

from pipelines.audit import read_audit
from pipelines.report import charts
from pipelines.report.source import Section, Source


def view(source: Source) -> dict[str, Any]:
    audit = read_audit(source.store, source.version.number)
    if audit is None:
        return {"audit": None}
    groups = [
        ("Container features, which decide the gate", _rows(audit["container"])),
        ("What the pixels tell (compression, resampling, content), which is reported", _rows(audit["traces"])),
    ]
    return {"audit": audit, "groups": [(title, rows) for title, rows in groups if rows]}


def _rows(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**verdict, "drawn": charts.interval({**verdict, "value": verdict["auc"]}, as_bar=False)} for verdict in verdicts]


SECTION = Section("audit", "Shortcut audit", view)

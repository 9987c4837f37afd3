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
        ("Traces of compression and resampling in the pixels, which are reported", _rows(audit["traces"])),
    ]
    return {"audit": audit, "groups": [(title, rows) for title, rows in groups if rows]}


def _rows(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**each, "drawn": charts.interval({"value": each["auc"], "low": each["low"], "high": each["high"]}, as_bar=False)}
        for each in findings
    ]


SECTION = Section("audit", "Shortcut audit", view)

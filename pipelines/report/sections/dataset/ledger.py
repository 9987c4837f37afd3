"""How every planned image ended."""

from __future__ import annotations

from typing import Any

from pipelines.report.source import Section, Source


def view(source: Source) -> dict[str, Any]:
    rows = [
        {"name": name, "planned": subset.count, "written": len(source.finals[name]), "rejected": source.rejected[name]}
        for name, subset in source.manifest.subsets.items()
    ]
    return {"rows": rows, "attempts": source.manifest.attempts}


SECTION = Section("ledger", "Ledger", view)

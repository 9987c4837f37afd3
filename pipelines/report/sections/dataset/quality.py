"""How good the images are, subset beside subset."""

from __future__ import annotations

from typing import Any

from pipelines.report.source import Section, Source, anchor


def view(source: Source) -> dict[str, Any]:
    rows = [(name, f"subset-{anchor(name)}", quality) for name, quality in source.qualities.items()]
    return {"rows": rows, "network": source.features.name if source.features else ""}


SECTION = Section("quality", "Quality", view)

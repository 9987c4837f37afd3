"""The real images: their sources, licences and a sheet of each."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipelines.report.quality import median_sharpness
from pipelines.report.sheets import TILE
from pipelines.report.source import Section, Source, anchor, spread


def view(source: Source) -> dict[str, Any]:
    return {"sources": [_real(source, name) for name in source.reals]}


def _real(source: Source, name: str) -> dict[str, Any]:
    rows = source.reals[name]
    shown = spread(rows, source.thumbnails(len(source.reals)))
    pixels = source.pixels(row.id for row in shown)
    return {
        "name": name,
        "anchor": f"real-{anchor(name)}",
        "images": len(rows),
        "groups": len({row.group for row in rows}),
        "splits": Counter(row.split for row in rows),
        "licences": sorted({row.licence for row in rows}),
        "sharpness": median_sharpness(row.measures for row in rows),
        "sheet": [(row.id, source.album.add(pixels[row.id], TILE)) for row in shown if row.id in pixels],
    }


SECTION = Section("reals", "Real images", view)

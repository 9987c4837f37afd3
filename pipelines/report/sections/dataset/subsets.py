"""Every subset: a line in a table, and behind it its pictures, its chains, its numbers and where it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.manifest.chains import Part
from pipelines.report import charts
from pipelines.report.album import Picture
from pipelines.report.quality import Quality
from pipelines.report.sheets import TILE
from pipelines.report.source import Section, Source, anchor, spread
from pipelines.report.strips import Cell, ids_of, strip
from pipelines.report.words import describe_chain
from pipelines.store import Row


@dataclass(frozen=True)
class Used:
    """A checkpoint that made images of a subset; `licence` is what the catalogue or the manifest states."""

    generator: str
    name: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class SubsetView:
    """What the page says of one subset. `sheet` and `strips` come with the ids that they show."""

    name: str
    anchor: str
    mode: str
    side: str
    chains: list[str]
    reals: list[str]
    images: int
    splits: Counter[str]
    rejected: Counter[str]
    licences: list[str]
    checkpoints: list[Used]
    quality: Quality
    ap: Mapping[str, Any] | None
    chance: float | None
    bar: str
    sheet: list[tuple[str, Picture]]
    strips: list[tuple[str, list[Cell]]]


def view(source: Source) -> dict[str, Any]:
    entries = Catalogue.shipped().joined(source.manifest.checkpoints).entries
    return {"subsets": [_subset(source, name, entries) for name in source.manifest.subsets], "judged": bool(source.inputs.runs)}


def _described(part: Part) -> str:
    chain = describe_chain(part.chain)
    return f"{chain}, beginning at the images of {part.origin}" if part.origin else chain


def _subset(source: Source, name: str, entries: Mapping[str, CheckpointEntry]) -> SubsetView:
    subset, rows, groups = source.manifest.subsets[name], source.finals[name], len(source.manifest.subsets)
    shown = spread(rows, source.thumbnails(groups))
    chained = [row for row in shown if row.target_id or row.source_id][: source.strips(groups)]
    pixels = source.pixels([row.id for row in shown] + [picture for row in chained for picture in ids_of(row)])
    judged = _judged(source, name)
    ap, chance = (judged["measures"]["ap"], judged.get("chance")) if judged else (None, None)
    return SubsetView(
        name,
        f"subset-{anchor(name)}",
        rows[0].mode if rows else "–",
        "retouched reals" if rows and not rows[0].label else "fakes",
        list(dict.fromkeys(_described(part) for part in subset.parts)),
        list(subset.reals),
        len(rows),
        Counter(row.split for row in rows),
        source.rejected[name],
        sorted({row.licence for row in rows}),
        _checkpoints(rows, entries),
        source.qualities[name],
        ap,
        chance,
        charts.interval(ap, 0.5 if chance is None else chance) if ap else "",
        [(row.id, source.album.add(pixels[row.id], TILE)) for row in shown if row.id in pixels],
        [(row.id, strip(row, source.by_id, pixels, source.album)) for row in chained],
    )


def _checkpoints(rows: Sequence[Row], entries: Mapping[str, CheckpointEntry]) -> list[Used]:
    """Those in the chains of the images themselves, in the order of the steps."""
    used: dict[tuple[str, str, str], Used] = {}
    for row in rows:
        for link in row.chain:
            name, sha256 = link["checkpoint"], link["identity"]["sha256"]
            licence = entries[name].licence if name in entries else "not listed on this machine"
            used.setdefault((link["generator"], name, sha256), Used(link["generator"], name, sha256, licence))
    return list(used.values())


def _judged(source: Source, name: str) -> Mapping[str, Any] | None:
    """The first detector's row of a subset."""
    rows = [row for run in source.inputs.runs[:1] for row in run.evaluation["subsets"] if row["name"] == name]
    return rows[0] if rows else None


SECTION = Section("subsets", "Subsets", view)

"""The three splits: how many of each subset, whether a group is in two of them, and what looks the same across them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from generators.errors import InputError
from pipelines.examine.duplicates import DISTANCE, find_duplicates
from pipelines.manifest.splits import SPLITS
from pipelines.report.source import Section, Source

SHOWN = 10


def view(source: Source) -> dict[str, Any]:
    groups: dict[str, set[str]] = defaultdict(set)
    for row in source.rows:
        if row.role in ("final", "real"):
            groups[row.group].add(row.split)
    try:
        pairs = find_duplicates(source.store, source.version.number)
        too_many = ""
    except InputError as error:
        pairs, too_many = [], str(error)
    counts = [(name, "real", Counter(row.split for row in rows)) for name, rows in source.reals.items()]
    for name, rows in source.finals.items():
        side = "real, retouched" if rows and not rows[0].label else "fake"
        counts.append((name, side, Counter(row.split for row in rows)))
    return {
        "splits": SPLITS,
        "counts": counts,
        "groups": Counter(split for splits in groups.values() for split in splits),
        "torn": sum(len(splits) > 1 for splits in groups.values()),
        "pairs": pairs[:SHOWN],
        "number": len(pairs),
        "too_many": too_many,
        "distance": DISTANCE,
    }


SECTION = Section("splits", "Splits", view)

"""The versions of the dataset, what the newest step changed, and what new checkpoints did to the detector."""

from __future__ import annotations

from collections import Counter
from typing import Any

from generators.errors import InputError
from pipelines.examine.diff import diff, replaced_images
from pipelines.images import decode
from pipelines.report.sheets import TILE
from pipelines.report.sheets import difference as difference_of
from pipelines.report.source import Section, Source, spread

SHOWN = 12  # versions, the newest
CAUSES = 3
ALL_PAIRS = 40  # images shown in both versions, on the whole page


def view(source: Source) -> dict[str, Any]:
    log = source.store.log()
    before = [version for version in log if version.number < source.version.number]
    changed: list[Any] = []
    counts: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    if before:
        try:
            changed = diff(source.store, before[-1].number, source.version.number)
            counts = _counts(source, before[-1].number)
            pairs = _pairs(source, before[-1].number) if any(difference.replaced for difference in changed) else []
        except InputError:  # the earlier version is not whole any more
            before = []
    return {
        "log": log[-SHOWN:],
        "all": len(log),
        "before": before[-1].number if before else None,
        "changed": [
            {"diff": difference, "causes": [f"{cause} ({n})" for cause, n in difference.causes.most_common(CAUSES)]}
            for difference in changed
        ],
        "counts": counts,
        "pairs": pairs,
        "history": list(reversed(source.inputs.history)),
    }


def _counts(source: Source, before: int) -> list[dict[str, Any]]:
    """Images and rejected tries of every subset and real source in both versions."""
    old, new = (_tally(source, number) for number in (before, source.version.number))
    names = dict.fromkeys([*source.manifest.subsets, *source.manifest.reals, *(name for name, _ in old)])
    return [
        {
            "name": name,
            "old_images": old[name, "image"],
            "new_images": new[name, "image"],
            "old_rejected": old[name, "rejected"],
            "new_rejected": new[name, "rejected"],
        }
        for name in names
    ]


def _tally(source: Source, version: int) -> Counter[tuple[str, str]]:
    """How many images, and how many rejected tries, each subset and real source has in a version."""
    tally: Counter[tuple[str, str]] = Counter()
    for batch in source.store.scan(["subset", "role"], "role IN ('final', 'real', 'rejected')", version):
        for subset, role in zip(batch.column("subset").to_pylist(), batch.column("role").to_pylist(), strict=True):
            tally[subset, "rejected" if role == "rejected" else "image"] += 1
    return tally


def _pairs(source: Source, before: int) -> list[dict[str, Any]]:
    """Some of the images that were replaced, of each subset: as they were, as they are, and where they differ."""
    replaced = replaced_images(source.store, before, source.version.number)
    most = max(1, ALL_PAIRS // max(1, len(replaced)))
    shown = {name: spread(ids, most) for name, ids in replaced.items()}
    wanted = [pair for ids in shown.values() for pair in ids][:ALL_PAIRS]
    old = _decoded(source, [first for first, _ in wanted], before)
    new = _decoded(source, [second for _, second in wanted], source.version.number)
    album = source.album
    return [
        {
            "name": name,
            "all": len(replaced[name]),
            "images": [
                {
                    "id": second,
                    "old": album.add(old[first], TILE),
                    "new": album.add(new[second], TILE),
                    "difference": album.add(difference_of(new[second], old[first]), TILE),
                }
                for first, second in ids
                if first in old and second in new
            ],
        }
        for name, ids in shown.items()
    ]


def _decoded(source: Source, ids: list[str], version: int) -> dict[str, Any]:
    """Pictures by id. A version can have a rejected try of the same id, which has no image."""
    images = source.store.images(ids, version)
    return {name: decode(image, name) for name, image in images.items()}


SECTION = Section("versions", "Versions and drift", view)

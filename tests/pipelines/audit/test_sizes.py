"""Versions of pictures of several sizes: dimensions are judged on all of them, and the rest at equal dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.audit import audit_version
from pipelines.audit.families import DIMENSIONS
from pipelines.make.rows import Picture
from pipelines.manifest.schema import Codec
from pipelines.store import Row, Store

SIZES = ((32, 32), (40, 32), (48, 40))


def rows(fake_sizes: tuple[tuple[int, int], ...], shared: int) -> Iterator[Row]:
    """Sixty reals of three sizes, and sixty fakes: `shared` of the reals' sizes, the rest of `fake_sizes`."""
    for label in (0, 1):
        for number in range(60):
            height, width = SIZES[number % 3] if not label or number < shared else fake_sizes[number % len(fake_sizes)]
            pixels = np.random.default_rng([label, number]).integers(0, 255, (height, width, 3), np.uint8)
            name = f"Made/r/{number:06d}/0" if label else f"real/r/{number:06d}"
            role, subset, kind = ("final", "Made", "GAN") if label else ("real", "r", "real")
            row = Row(name, role, label, subset, "r", kind, kind, number, "train", f"{label}-{number}", f"key{label}", "CC0")
            yield Picture(row, pixels).encoded(Codec())


def stored(folder: Path, fake_sizes: tuple[tuple[int, int], ...], shared: int) -> Store:
    store = Store(folder, "sizes")
    everything = list(rows(fake_sizes, shared))
    with store.building():
        for label in (0, 1):
            store.write_shard(f"key{label}", "a shard", [row for row in everything if row.label == label])
        store.commit(["key0", "key1"], "run")
    return store


@pytest.mark.parametrize(
    ("fake_sizes", "shared", "is_open", "judged"),
    [(SIZES, 60, True, 120), (((64, 64),), 30, False, 60), (((64, 64),), 0, False, 120)],
)
def test_dimensions_tell_where_the_classes_have_others(
    tmp_path: Path, fake_sizes: tuple[tuple[int, int], ...], shared: int, is_open: bool, judged: int
) -> None:
    """With half of the sizes in common the dimensions still tell, and the rest is judged where they are equal."""
    audit = audit_version(stored(tmp_path, fake_sizes, shared))
    assert audit.rows == judged
    told = {verdict.name for verdict in audit.container if not verdict.passed}
    assert (DIMENSIONS not in told) == is_open == audit.gate.passed
    if shared:
        assert told <= {DIMENSIONS}
        assert f"dimensions of 120 images; the rest of {judged} of equal ones" in audit.gate.reason

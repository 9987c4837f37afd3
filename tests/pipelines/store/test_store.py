"""Rows and images by id: whatever an id holds, it is an id and no SQL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from generators.errors import InputError
from pipelines.store import Row, Store

QUOTED = "it's/\"people\"/000000' OR '1' = '1"


@pytest.fixture
def odd(tmp_path: Path) -> Store:
    """A store of four rows: an ordinary image, one whose id is full of quotes, and a rejected try beside the image that came of it."""
    store = Store(tmp_path / "odd", "odd")
    plain = Row("A/r/000000/0", "final", 1, "A", "r", "GAN", "GAN", 0, "train", "g", "k" * 64, "CC0", image=b"plain")
    tried = replace(plain, id="A/r/000001/0", index=1)
    rejected = replace(tried, role="rejected", reason="blank", image=None)
    rows = [plain, replace(plain, id=QUOTED, index=2, image=b"quoted"), rejected, replace(tried, image=b"later")]
    store.write_shard(plain.shard_key, "", rows)
    store.commit([plain.shard_key], "run")
    return store


def test_row(odd: Store) -> None:
    assert (odd.row(QUOTED).id, odd.row(QUOTED).image, odd.row(QUOTED, image=True).image) == (QUOTED, None, b"quoted")
    assert odd.row("A/r/000001/0").role == "final"
    with pytest.raises(InputError, match=r"has no image .x' OR"):
        odd.row("x' OR 'a' = 'a")


def test_named(odd: Store) -> None:
    assert sorted(row.role for row in odd.named(["A/r/000001/0"])) == ["final", "rejected"]
    assert {row.id for row in odd.named([QUOTED, "A/r/000000/0", "nobody"])} == {QUOTED, "A/r/000000/0"}
    assert odd.named([]) == []


def test_images(odd: Store) -> None:
    assert odd.images([QUOTED, "A/r/000001/0", "nobody"]) == {QUOTED: b"quoted", "A/r/000001/0": b"later"}
    assert odd.images([]) == {}
    assert odd.images(["' OR '1' = '1"]) == {}

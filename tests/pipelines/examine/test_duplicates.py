"""Near-duplicates across splits are found, all of them, and dropped on request."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from generators.errors import InputError
from pipelines.examine import duplicates
from pipelines.examine.duplicates import drop_duplicates, find_duplicates
from pipelines.store import Row, Store

SPLITS = ("train", "validation", "test")


def row(number: int, split: str, phash: int) -> Row:
    return Row(
        f"real/x/{number}", "real", 0, "x", "x", "real", "real", number, split, str(number), "k", "CC0",
        phash=f"{phash:016x}", sha256=str(number), image=b"",
    )  # fmt: skip


@pytest.fixture
def hashed(tmp_path: Path) -> tuple[Store, list[Row]]:
    """300 images, each fifth of which is a few bits away from another."""
    chance = random.Random(1)
    rows: list[Row] = []
    for number in range(300):
        value = chance.getrandbits(64)
        if number % 5 == 4:
            value = int(rows[chance.randrange(number)].phash or "0", 16)
            for bit in chance.sample(range(64), chance.randrange(9)):
                value ^= 1 << bit
        rows.append(row(number, chance.choice(SPLITS), value))
    store = Store(tmp_path / "hashed", "hashed")
    store.write_shard("k", "k", rows)
    store.commit(["k"], "run")
    return store, rows


@pytest.mark.parametrize("distance", [0, 2, 6])
def test_every_pair_is_found(hashed: tuple[Store, list[Row]], distance: int) -> None:
    store, rows = hashed
    wanted = {
        frozenset((image.id, other.id))
        for image in rows
        for other in rows
        if image.split != other.split and (int(image.phash or "", 16) ^ int(other.phash or "", 16)).bit_count() <= distance
    }
    pairs = find_duplicates(store, distance=distance)
    assert {frozenset((pair.first, pair.second)) for pair in pairs} == wanted and (wanted or not distance)
    assert all(SPLITS.index(pair.first_split) < SPLITS.index(pair.second_split) for pair in pairs)


def test_dropping_leaves_no_pair_and_the_whole_test_split(hashed: tuple[Store, list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    store, rows = hashed
    tested = {image.id for image in rows if image.split == "test"}
    with pytest.raises(InputError, match="more than 3 pairs"), monkeypatch.context() as patch:
        patch.setattr(duplicates, "MAX_PAIRS", 3)
        find_duplicates(store)
    version, gone = drop_duplicates(store)
    assert version and gone and not find_duplicates(store)
    assert {image.id for image in store.rows()} == {image.id for image in rows} - set(gone) >= tested
    assert drop_duplicates(store) == (None, [])

"""A plan's time comes from what earlier builds took, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.build import rates
from pipelines.plan.shards import Shard


def shard(generator: str, count: int = 10) -> Shard:
    return Shard("final", "A", "faces", 0, 0, 0, count, "key", (), generator, "weights")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path))
    return tmp_path


def test_what_never_ran_is_not_guessed() -> None:
    assert rates.estimate("cpu", [shard("ddim")]) == (0.0, frozenset({"ddim"}))


def test_the_seconds_an_image_are_taken_from_builds_on_such_a_device() -> None:
    rates.remember("cuda:0", [(shard("ddim"), 10, 5.0), (shard("ddim"), 10, 15.0)])
    assert rates.estimate("cuda:1", [shard("ddim", 30)]) == (pytest.approx(30.0), frozenset())
    assert rates.estimate("cpu", [shard("ddim")])[1] == {"ddim"}


def test_a_newer_build_counts_more_than_older_ones() -> None:
    for seconds in (10.0, 20.0, 20.0):
        rates.remember("cpu", [(shard("ddim"), 10, seconds)])
    assert 1.5 < rates.estimate("cpu", [shard("ddim", 1)])[0] < 2.0


def test_a_damaged_file_is_as_none(cache: Path) -> None:
    (cache / "rates.json").write_text("{nonsense")
    assert rates.estimate("cpu", [shard("ddim")])[1] == {"ddim"}

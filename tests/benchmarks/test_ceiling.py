"""The program that measures everything around a network, on small sizes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ceiling import markdown, measure, photograph
from benchmarks.stages import Stages


def spend(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_stage_counts_its_own_time_and_not_that_of_stages_inside_or_of_other_threads() -> None:
    stages = Stages()

    def other() -> None:
        with stages.stage("other"):
            spend(0.03)

    with stages.stage("outer"):
        spend(0.02)
        with stages.stage("inner"):
            spend(0.04)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert stages.calls == {"outer": 1, "inner": 1, "other": 1}
    assert stages.seconds["inner"] >= 0.04 > stages.seconds["outer"] >= 0.02
    assert 0.03 <= stages.seconds["other"] < 0.04


class Owner:
    def act(self) -> str:
        return "done"


def test_watched_calls_are_as_before_after_the_block() -> None:
    plain, stages = Owner.act, Stages()
    with stages.watch((Owner, "act", "acting")):
        assert Owner().act() == "done"
    assert Owner.act is plain
    assert stages.calls["acting"] == 1


@pytest.mark.parametrize(("work", "plain"), [("samples", False), ("samples", True), ("edits", False)])
def test_a_small_build_is_measured_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, plain: bool) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    result = measure(tmp_path / "data", work, 32, 12, 24, None, None, plain)
    assert (result["images"], result["rejected"], result["work"]) == (12, 0, work)
    assert {"encoding, hashes, measures", "writing", "judging, resizing, the row"} < result["stages"].keys()
    assert result["all"] == pytest.approx(sum(result["stages"].values()) + result["commit"])
    assert 0 < result["feeding"] < result["all"]
    assert f"| {work}{', one thread' if plain else ''} | 32 | 12 |" in markdown([result])


def test_the_stand_ins_pictures_differ_and_compress_as_photographs_do() -> None:
    from pipelines.images import encode
    from pipelines.manifest.schema import Codec

    first, second = photograph(0, 256), photograph(1, 256)
    assert not np.array_equal(first, second)
    assert 0.9 < len(encode(first, Codec(format="png"))) / 256**2 < 1.6

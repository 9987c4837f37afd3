"""The attempts at a shard: how often, with which seeds and targets, in which order they are told, and how many images are short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.images import decode, encode
from pipelines.make import rejections
from pipelines.make.make import Maker
from pipelines.make.models import Models
from pipelines.make.rows import ShardPictures
from pipelines.manifest.schema import Codec
from pipelines.plan.plan import Plan
from pipelines.plan.shards import INTERMEDIATE_CODEC, Shard
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned

Judge = Callable[[np.ndarray, "np.ndarray | None"], "str | None"]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    with fake_generators():
        yield planned(fake_dataset(tmp_path / "data"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", "fake")


def maker(plan: Plan, store: Store) -> Maker:
    return Maker(plan, store, Models(plan.catalogue))


def shard_of(plan: Plan, subset: str, step: int) -> Shard:
    return next(shard for shard in plan.shards if (shard.subset, shard.step) == (subset, step))


def rows_of(made: ShardPictures) -> list[Row]:
    return [picture.row for picture in made.pictures]


def judged(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> None:
    monkeypatch.setattr(rejections, "reason_against", lambda image, target=None: judge(image, target))


@pytest.mark.parametrize("attempts", [1, 3])
def test_an_image_is_tried_as_often_as_the_manifest_says_and_then_short(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    plan = replace(plan, manifest=plan.manifest.model_copy(update={"attempts": attempts}))
    shard = shard_of(plan, "Sampled", 0)
    judged(monkeypatch, lambda image, target: rejections.BLANK)
    made = maker(plan, store).make(shard)
    assert made.short == shard.count == 4
    assert [(row.index, row.attempt, row.role, row.reason) for row in rows_of(made)] == [
        (index, attempt, "rejected", rejections.BLANK) for index in range(4) for attempt in range(attempts)
    ]
    assert len({row.seed for row in rows_of(made)}) == 4 * attempts
    assert all(picture.pixels is None for picture in made.pictures)


def test_only_what_was_rejected_is_tried_again(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_of(plan, "Sampled", 0)
    alone = maker(plan, store).make(shard)
    assert (alone.short, [row.attempt for row in rows_of(alone)]) == (0, [0, 0, 0, 0])
    calls: list[int] = []

    def second_and_fifth(image: np.ndarray, target: np.ndarray | None) -> str | None:
        calls.append(1)
        return rejections.BLANK if len(calls) in (2, 5) else None

    judged(monkeypatch, second_and_fifth)
    made = maker(plan, store).make(shard)
    assert made.short == 0
    assert [(row.index, row.attempt, row.role) for row in rows_of(made)] == [
        (0, 0, "final"),
        (1, 0, "rejected"),
        (1, 1, "rejected"),
        (1, 2, "final"),
        (2, 0, "final"),
        (3, 0, "final"),
    ]
    same = {row.index: row for row in rows_of(alone)}
    assert all(row == same[row.index] for row in rows_of(made) if row.index != 1)


def test_a_size_that_no_attempt_changes_is_tried_once_where_noise_is_drawn(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of(plan, "Sampled", 0)
    judged(monkeypatch, lambda image, target: rejections.TOO_SMALL)
    made = maker(plan, store).make(shard)
    assert (made.short, Counter(row.attempt for row in rows_of(made))) == (4, {0: 4})
    swap = shard_of(plan, "Swapped", 0)  # where another real image may have another size
    tried = maker(plan, store).make(swap)
    assert (tried.short, max(row.attempt for row in rows_of(tried))) == (4, plan.manifest.attempts - 1)


def test_a_target_that_is_no_use_is_made_again_and_kept_and_told(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    steps = maker(plan, store)
    store.write_shard(first.key, first.title, steps.make(first).rows())
    seen: list[np.ndarray] = []

    def no_face_at_first(image: np.ndarray, target: np.ndarray | None) -> str | None:
        if target is None:
            return None
        seen.append(target)
        return rejections.NO_FACE["target"] if len(seen) <= 4 else None

    judged(monkeypatch, no_face_at_first)
    made = steps.make(second)
    assert made.short == 0
    assert [(row.index, row.attempt, row.step, row.role) for row in rows_of(made)] == [
        entry for index in range(4) for entry in ((index, 0, 1, "rejected"), (index, 1, 0, "intermediate"), (index, 1, 1, "final"))
    ]
    assert all(not np.array_equal(before, after) for before, after in zip(seen[:4], seen[4:], strict=True))
    made_anew = {picture.row.id: picture.pixels for picture in made.pictures if picture.row.step == 0}
    for row, target in zip((row for row in rows_of(made) if row.role == "final"), seen[4:], strict=True):
        assert np.array_equal(made_anew[row.target_id or ""], target)


def test_codecs_and_inputs_are_those_of_the_role(plan: Plan, store: Store) -> None:
    jpeg = plan.manifest.model_copy(update={"codec": Codec(format="jpeg", quality=90)})
    plan = replace(plan, manifest=jpeg)
    steps, first, second = maker(plan, store), shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    above = steps.make(first)
    assert above.codec == INTERMEDIATE_CODEC and {row.role for row in rows_of(above)} == {"intermediate"}
    store.write_shard(first.key, first.title, above.rows())
    below = steps.make(second)
    assert below.codec == jpeg.codec and {row.role for row in rows_of(below)} == {"final"}
    reals = steps.make(next(shard for shard in plan.shards if shard.role == "real"))
    assert reals.codec == jpeg.codec and {row.role for row in rows_of(reals)} == {"real"}
    assert below.seconds > 0


def test_each_stored_image_is_made_again_to_the_bit_by_itself(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose target was made anew: every step at the attempt that its chain records."""
    calls: list[int] = []

    def every_third(image: np.ndarray, target: np.ndarray | None) -> str | None:
        calls.append(1)
        return (rejections.NO_FACE["target"] if target is not None else rejections.BLANK) if len(calls) % 3 == 0 else None

    judged(monkeypatch, every_third)
    steps, rows = maker(plan, store), []
    for subset, step in (("Sampled", 0), ("Swapped", 0), ("Chained", 0), ("Chained", 1)):
        shard = shard_of(plan, subset, step)
        note_rows = steps.make(shard).rows()
        store.write_shard(shard.key, shard.title, note_rows)
        rows += [row for row in note_rows if row.role in ("final", "intermediate")]
    assert {tuple(link["attempt"] for link in row.chain) for row in rows} > {(0,), (0, 0), (1,)}
    judged(monkeypatch, lambda image, target: None)
    for row in rows:
        again = steps.remake(row)
        assert row.image is not None and again.pixels is not None
        codec = INTERMEDIATE_CODEC if row.role == "intermediate" else plan.manifest.codec
        assert encode(again.pixels, codec) == row.image
        assert (again.row.id, again.row.chain, again.row.role, again.row.seed) == (row.id, row.chain, row.role, row.seed)


def test_a_step_that_is_rejected_now_ends_a_remake(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, first, second = maker(plan, store), shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    store.write_shard(first.key, first.title, steps.make(first).rows())
    row = rows_of(steps.make(second))[0]
    judged(monkeypatch, lambda image, target: rejections.BLANK)
    again = steps.remake(row)
    assert (again.row.step, again.row.role, again.row.reason, again.pixels) == (0, "rejected", rejections.BLANK, None)


def test_reals_come_in_as_they_are(plan: Plan, store: Store) -> None:
    shard = [shard for shard in plan.shards if shard.role == "real"][1]
    made = maker(plan, store).make(shard)
    assert [row.index for row in rows_of(made)] == [*range(shard.start, shard.stop)] and made.short == 0
    for picture in made.pictures:
        image = plan.pools["people"].images[picture.row.index]
        assert picture.row.id == image.id and image.file is not None and picture.pixels is not None
        assert np.array_equal(picture.pixels, decode(image.file.read_bytes(), "x"))

"""What a shard is made of: reals, deliveries, and attempts: how often, with which seeds and targets, in which order, how many are short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines.images import decode, encode
from pipelines.make import rejections
from pipelines.make.make import Maker
from pipelines.make.models import Models
from pipelines.make.rows import ShardPictures
from pipelines.make.step import Steps
from pipelines.manifest.schema import Codec
from pipelines.manifest.sizes import Crop
from pipelines.plan.plan import Plan
from pipelines.plan.shards import INTERMEDIATE_CODEC, Shard
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import edited, planned, write

SAMPLED = {"real": "people", "chain": [{"sample": "fake_sampler", "checkpoint": "sampler"}]}
Judge = Callable[[np.ndarray, "np.ndarray | None"], "str | None"]


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


def test_reals_that_do_not_fit_or_that_a_rule_refuses_are_told_once_and_the_others_kept(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = next(shard for shard in plan.shards if shard.role == "real")
    large = replace(plan, manifest=plan.manifest.model_copy(update={"size": Crop(crop=32)}))
    made = maker(large, store).make(shard)
    assert [(row.index, row.role, row.reason) for row in rows_of(made)] == [
        (index, "rejected", rejections.TOO_SMALL) for index in range(shard.start, shard.stop)
    ]
    assert made.short == 0 and all(picture.pixels is None for picture in made.pictures)
    seen: list[np.ndarray] = []

    def second(filters: object, pixels: np.ndarray) -> str | None:
        seen.append(pixels)
        return "refused by a rule" if len(seen) == 2 else None

    monkeypatch.setattr("pipelines.make.make.against_picture", second)
    made = maker(plan, store).make(shard)
    assert [(row.role, row.reason) for row in rows_of(made)] == [("real", None), ("rejected", "refused by a rule"), *[("real", None)] * 2]
    for picture, pixels, image in zip(made.pictures, seen, plan.pools["people"].images[shard.start :], strict=False):
        assert np.array_equal(pixels, image.load()) and picture.row.id == image.id
        assert picture.pixels is None if picture.row.reason else np.array_equal(picture.pixels, pixels)


def test_only_a_real_that_was_a_jpeg_has_a_past(plan: Plan, store: Store, tmp_path: Path) -> None:
    shard = next(shard for shard in plan.shards if shard.role == "real")
    images, jpeg = [*plan.pools["people"].images], tmp_path / "a.jpg"
    jpeg.write_bytes(encode(images[shard.start].load(), Codec(format="jpeg", quality=77)))
    images[shard.start] = replace(images[shard.start], file=jpeg)
    plan = replace(plan, pools={**plan.pools, "people": replace(plan.pools["people"], images=tuple(images))})
    measures = [row.measures for row in rows_of(maker(plan, store).make(shard))]
    assert measures[0]["history"]["quality"] == 77 and measures[0]["history"]["side"] == 16
    assert measures[1:] == [{}] * (shard.count - 1)


def test_a_delivery_takes_the_images_of_its_clean_shard_or_tells_that_there_is_none(
    tmp_path: Path, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = yaml.safe_load((tmp_path / "data" / "fake.yaml").read_text())
    plan = planned(write(tmp_path / "data" / "fake.yaml", {**data, "deliveries": {"web": "edited"}}))
    shard = shard_of(plan, "Sampled", 0)
    delivery = next(entry for entry in plan.deliveries(["web"]) if entry.inputs == (shard.key,))
    steps = maker(plan, store)
    clean = [replace(row, role="rejected", reason="blank", image=None) if row.index == 1 else row for row in steps.make(shard).rows()]
    store.write_shard(shard.key, shard.title, clean)
    made = steps.make(delivery)
    rows = {row.target_id: row for row in made.rows()}
    assert rows.keys() == {row.id for row in clean if row.role == "final"} and len(rows) == 3 and made.short == 0
    for row in rows.values():
        assert (row.role, row.delivery, row.shard_key) == ("delivered", "web", delivery.key)
        again = steps.redeliver(row, next(entry for entry in clean if entry.id == row.target_id))
        assert row.image is not None and (again.id, again.image, again.sha256) == (row.id, row.image, row.sha256)
    store.write_shard(shard.key, shard.title, [replace(row, role="rejected", reason="blank", image=None) for row in clean])
    (nothing,) = steps.make(delivery).rows()
    assert (nothing.role, nothing.reason, nothing.image) == ("rejected", rejections.NO_INPUT, None)
    assert (nothing.delivery, nothing.shard_key, nothing.target_id) == ("web", delivery.key, clean[0].id)
    monkeypatch.setattr(store, "shard", lambda key: [])
    assert steps.make(delivery).pictures == ()


def test_an_image_is_made_again_in_batches_as_large_as_those_of_each_step(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, first, second = maker(plan, store), shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    above = steps.make(first).rows()
    store.write_shard(first.key, first.title, [replace(row, measures={"made_with": {"batch": 5 + row.index}}) for row in above])
    store.commit([first.key], "run")
    rows = [replace(row, measures={"made_with": {"batch": 3}}) for row in steps.make(second).rows()]
    sizes: list[int] = []

    @contextmanager
    def noted(self: Steps, size: int) -> Iterator[None]:
        sizes.append(size)
        yield

    monkeypatch.setattr(Steps, "in_batches_of", noted)
    for row in rows[:2]:
        steps.remake(row)
    assert sizes == [5, 3, 6, 3]
    sizes.clear()
    steps.remake(replace(rows[0], measures={}))
    steps.remake(replace(rows[0], target_id="of another store"))
    assert sizes == [5, 0, 0, 3]


def test_what_another_subset_made_is_not_made_again_for_a_step_that_cannot_use_it(
    tmp_path: Path, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inputs are another subset's images: no other attempt has others. A swap that fails for itself is tried again."""
    swap = {"swap": "fake_swapper", "checkpoint": "swapper", "source": "people", "repeat_pairs": True}
    chained = {"count": 4, "real": "people", "chain": [{"from": "Sampled"}, swap]}
    plan = planned(edited(tmp_path / "data" / "fake.yaml", Sampled={**SAMPLED, "count": 4}, Swapped=None, Chained=chained))
    first, second = shard_of(plan, "Sampled", 0), shard_of(plan, "Chained", 1)
    steps = maker(plan, store)
    store.write_shard(first.key, first.title, steps.make(first).rows())
    for reason, attempts in ((rejections.NO_FACE["target"], 1), (rejections.NOT_MOVED, plan.manifest.attempts)):
        judged(monkeypatch, lambda image, target, reason=reason: reason)
        made = steps.make(second)
        assert (made.short, Counter(row.attempt for row in rows_of(made))) == (4, dict.fromkeys(range(attempts), 4))
        assert {row.step for row in rows_of(made)} == {1}
    judged(monkeypatch, lambda image, target: None)
    made = steps.make(second)
    assert made.short == 0 and [[link["attempt"] for link in row.chain] for row in rows_of(made)] == [[0, 0]] * 4
    for picture in made.pictures:
        assert picture.row.target_id == f"Sampled/people/{picture.row.index:06d}/0"
        again = steps.remake(picture.row)
        assert np.array_equal(again.pixels, picture.pixels) and again.row.id == picture.row.id and again.row.role == "final"


def test_the_generators_of_a_shard_are_those_of_its_whole_chain(plan: Plan, store: Store) -> None:
    steps = maker(plan, store)
    chain = {("fake_sampler", "sampler"), ("fake_swapper", "swapper")}
    assert [steps._generators(shard_of(plan, "Chained", step)) for step in (0, 1)] == [chain, chain]
    assert steps._generators(shard_of(plan, "Sampled", 0)) == {("fake_sampler", "sampler")}
    real = next(shard for shard in plan.shards if shard.role == "real")
    assert steps._generators(real) == steps._generators(replace(real, role="delivered")) == set()

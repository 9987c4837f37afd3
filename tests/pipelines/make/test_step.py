"""One step over a batch of jobs, and the attempts at a shard: values in, values out."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from pipelines.make import rejections
from pipelines.make.jobs import plan_jobs
from pipelines.make.make import Maker
from pipelines.make.models import Models
from pipelines.make.rows import Picture
from pipelines.make.step import Steps
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from tests.pipelines.store.fakes import FakeSampler


def shard_of(plan: Plan, subset: str, step: int) -> Shard:
    return next(shard for shard in plan.shards if (shard.subset, shard.step) == (subset, step))


def run(plan: Plan, shard: Shard, indices: list[int], inputs: dict[int, Picture], attempt: int = 0) -> dict[int, Picture]:
    jobs, rejected = plan_jobs(plan, shard, indices, attempt, MappingProxyType(inputs))
    steps = Steps(plan, Models(plan.catalogue))
    return {picture.row.index: picture for picture in [*rejected, *steps.run(shard, jobs)]}


def test_a_picture_does_not_depend_on_the_batch_that_it_is_made_in(plan: Plan) -> None:
    shard = shard_of(plan, "Sampled", 0)
    together = run(plan, shard, [0, 1, 2, 3], {})
    alone = run(plan, shard, [2], {})
    assert np.array_equal(together[2].pixels, alone[2].pixels)  # type: ignore[arg-type]
    assert together[2].row == alone[2].row
    again = run(plan, shard, [2], {}, attempt=1)
    assert again[2].row.seed != alone[2].row.seed
    assert again[2].row.id == f"{alone[2].row.id}.1"


def test_an_image_without_a_picture_above_is_rejected_and_the_others_are_made(plan: Plan) -> None:
    first, second = shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    inputs = run(plan, first, [0, 1], {})
    pictures = run(plan, second, [0, 1, 2], inputs)
    assert [pictures[index].row.reason for index in (0, 1, 2)] == [None, None, rejections.NO_INPUT]
    assert [len(pictures[index].row.chain) for index in (0, 1, 2)] == [2, 2, 1]
    assert pictures[0].row.target_id == inputs[0].row.id


def test_a_step_writes_nothing_into_its_inputs(plan: Plan) -> None:
    first, second = shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    inputs = run(plan, first, [0, 1, 2, 3], {})
    before = deepcopy(inputs)
    for picture in inputs.values():
        assert picture.pixels is not None
        picture.pixels.flags.writeable = False
    run(plan, second, [0, 1, 2, 3], inputs)
    assert inputs.keys() == before.keys()
    for index, picture in inputs.items():
        assert picture.row == before[index].row
        assert np.array_equal(picture.pixels, before[index].pixels)  # type: ignore[arg-type]


def test_no_jobs_load_no_model(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(FakeSampler, "load", load)
    assert Steps(plan, Models(plan.catalogue)).run(shard_of(plan, "Sampled", 0), []) == []


def test_a_new_target_serves_all_later_attempts(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The swap asks for a new target once, then fails by itself: the third attempt works on the second attempt's target."""
    store = Store(tmp_path / "store", "fake")
    first, second = shard_of(plan, "Chained", 0), shard_of(plan, "Chained", 1)
    maker = Maker(plan, store, Models(plan.catalogue))
    store.write_shard(first.key, first.title, maker.make(first).rows())
    reasons = iter([rejections.NO_FACE["target"]] * second.count + [rejections.NOT_MOVED] * second.count)
    original = rejections.reason_against

    def judge(image: np.ndarray, target: np.ndarray | None = None) -> str | None:
        return original(image) if target is None else next(reasons, None)

    monkeypatch.setattr(rejections, "reason_against", judge)
    shard = maker.make(second)
    assert shard.short == 0
    finals = [picture.row for picture in shard.pictures if picture.row.role == "final"]
    assert [[link["attempt"] for link in row.chain] for row in finals] == [[1, 2]] * second.count
    targets = {picture.row.id for picture in shard.pictures if picture.row.role == "intermediate"}
    assert {row.target_id for row in finals} == targets

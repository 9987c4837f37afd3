"""Which worker gets which shard."""

from __future__ import annotations

import threading

from pipelines.build.schedule import Schedule
from pipelines.plan.shards import Shard


def shard(key: str, checkpoint: str, *inputs: str) -> Shard:
    return Shard("final", "S", "r", 0, len(inputs), 0, 1, key, inputs, "g", checkpoint)


def drain(schedule: Schedule, worker: int) -> list[str]:
    keys = []
    while (taken := schedule.take(worker)) is not None:
        keys.append(taken.key)
        schedule.done(taken)
    return keys


def test_a_worker_stays_with_its_model() -> None:
    schedule = Schedule([shard("a1", "a"), shard("b1", "b"), shard("a2", "a"), shard("b2", "b")])
    assert drain(schedule, 0) == ["a1", "a2", "b1", "b2"]


def test_two_workers_take_two_models_and_then_help_each_other() -> None:
    schedule = Schedule([shard("a1", "a"), shard("a2", "a"), shard("a3", "a"), shard("b1", "b")])
    assert [schedule.take(0).key, schedule.take(1).key, schedule.take(1).key, schedule.take(0).key] == ["a1", "b1", "a2", "a3"]


def test_inputs_come_first_and_what_needs_them_waits() -> None:
    schedule = Schedule([shard("swap", "s", "target"), shard("target", "t")])
    target = schedule.take(0)
    assert target.key == "target"
    taken: list[str] = []
    waiting = threading.Thread(target=lambda: taken.append(schedule.take(1).key))
    waiting.start()
    waiting.join(0.2)
    assert taken == []
    schedule.done(target)
    waiting.join(5)
    assert taken == ["swap"]


def test_an_input_that_is_there_already_is_not_waited_for() -> None:
    assert drain(Schedule([shard("swap", "s", "elsewhere")]), 0) == ["swap"]


def test_stop_hands_out_nothing_more() -> None:
    schedule = Schedule([shard("a", "a")])
    schedule.stop()
    assert schedule.take(0) is None

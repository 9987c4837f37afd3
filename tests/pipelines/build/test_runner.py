"""The runner of one process, and what all runners share: retries, failures, and what a failure takes with it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.errors import InputError
from pipelines.build import runner as runners
from pipelines.build.runner import WAITING_SHARDS, Failure, Here, Processes, attempted, input_failure, local_runner, retried
from pipelines.build.shares import in_order
from pipelines.make.rows import seed_of
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note
from tests.pipelines.store.fakes import FakeSampler, fake_dataset, fake_generators, planned


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runners, "RETRY_AFTER", (0.0, 0.0))
    with fake_generators():
        yield


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(fake_dataset(tmp_path / "data"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", "fake")


def shard(key: str, *inputs: str) -> Shard:
    return Shard("final", "S", "r", 0, len(inputs), 0, 1, key, inputs, "g", "c")


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    """An act that raises so many times, and the list that counts its calls."""
    calls: list[int] = []

    def act() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return act, calls


def test_every_shard_ends_with_the_note_that_the_store_has(plan: Plan, store: Store) -> None:
    ended = list(local_runner(plan, store, ("cpu",)).run(in_order(plan.shards)))
    assert {shard.key: note for shard, note in ended} == store.notes.read()
    assert [shard for shard, _ in ended] == in_order(plan.shards)
    assert all(isinstance(note, Note) and note.key == shard.key for shard, note in ended)


def test_several_devices_get_worker_processes(plan: Plan, store: Store) -> None:
    assert isinstance(local_runner(plan, store, ("cpu",)), Here)
    assert isinstance(local_runner(plan, store, ("cpu", "cpu")), Processes)


def test_an_act_that_fails_is_tried_again_and_no_more_often_than_there_are_pauses() -> None:
    act, calls = failing(2, RuntimeError("the device fell over"))
    assert (retried(shard("a"), act), len(calls)) == ("done", 3)
    act, calls = failing(3, RuntimeError("the device fell over"))
    with pytest.raises(RuntimeError, match="fell over"):
        retried(shard("a"), act)
    assert len(calls) == 3


def test_wrong_input_is_not_tried_again() -> None:
    act, calls = failing(1, InputError("no such file"))
    with pytest.raises(InputError, match="no such file"):
        attempted(shard("a"), act, threading.Event())
    assert len(calls) == 1


@pytest.mark.parametrize("reason", ["device-side assert triggered", "an illegal memory access was encountered", "invalid argument"])
def test_a_gpu_that_is_lost_ends_a_build_at_once(reason: str) -> None:
    """Each further call in this process would fail too; where another process does the work, it is a failure there."""
    act, calls = failing(2, torch.AcceleratorError(f"CUDA error: {reason}\nCompile with TORCH_USE_CUDA_DSA"))
    with pytest.raises(InputError, match=rf"the GPU failed.*{reason}\).*keeps what was made"):
        attempted(shard("a"), act, threading.Event())
    assert len(calls) == 1
    with pytest.raises(torch.AcceleratorError):
        retried(shard("a"), failing(2, torch.AcceleratorError(f"CUDA error: {reason}"))[0])
    act, calls = failing(1, torch.AcceleratorError("CUDA error: out of memory"))
    assert (attempted(shard("a"), act, threading.Event()), len(calls)) == ("done", 2)


def test_a_run_that_stops_does_not_wait_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "RETRY_AFTER", (600.0,))
    stopping = threading.Event()
    stopping.set()
    act, calls = failing(1, RuntimeError("killed"))
    assert attempted(shard("a"), act, stopping) == Failure(shard("a"), "RuntimeError: killed")
    assert len(calls) == 1


def test_what_works_on_a_failed_shard_fails_with_its_name() -> None:
    failures = {"a": Failure(shard("a"), "RuntimeError: out of memory")}
    lost = input_failure(shard("b", "a"), failures)
    assert lost == Failure(shard("b", "a"), "its input S step 1 r 0-0 failed")
    assert input_failure(shard("b", "c"), failures) is None


def test_one_failure_takes_with_it_what_works_on_it_and_nothing_else(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = next(shard for shard in plan.shards if (shard.subset, shard.step) == ("Chained", 0))
    tries: Counter[int] = Counter()
    original = FakeSampler._sample
    first_seed: list[int] = []

    def break_victim(self: Any, seeds: list[int], settings: Any) -> np.ndarray:
        if seeds == first_seed:
            tries[seeds[0]] += 1
            raise RuntimeError("the device fell over")
        return original(self, seeds, settings)

    first_seed += [seed_of(plan, victim, index, 0) for index in range(victim.start, victim.stop)]
    monkeypatch.setattr(FakeSampler, "_sample", break_victim)
    ended = dict(local_runner(plan, store, ("cpu",)).run(in_order(plan.shards)))
    failures = {shard: result.reason for shard, result in ended.items() if isinstance(result, Failure)}
    assert list(tries.values()) == [3]
    assert failures.pop(victim) == "RuntimeError: the device fell over"
    ((dependent, reason),) = failures.items()
    assert victim.key in dependent.inputs
    assert reason == f"its input {victim.title} failed"
    assert set(store.notes.read()) == plan.keys - {victim.key, dependent.key}


class SlowDisk:
    """A producer whose writing waits until the test lets it go on, or fails."""

    def __init__(self, error: Exception | None = None):
        self.made: list[str] = []
        self.go_on = threading.Event()
        self.error = error

    def make(self, shard: Shard) -> str:
        self.made.append(shard.key)
        return f"pictures of {shard.key}"

    def write(self, shard: Shard, pictures: str) -> Note:
        assert pictures == f"pictures of {shard.key}"
        if self.error:
            raise self.error
        assert self.go_on.wait(30)
        return Note(shard.key, shard.title, {"files": []}, 1, {}, 0, 0.0)


def until(test: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not test() and time.monotonic() < end:
        time.sleep(0.01)
    assert test()


def test_no_more_shards_wait_for_the_disk_than_memory_is_meant_for() -> None:
    disk: Any = SlowDisk()
    keys = [f"k{number}" for number in range(9)]
    ended: list[str] = []
    run = threading.Thread(target=lambda: ended.extend(shard.key for shard, _ in Here(disk).run([shard(key) for key in keys])))
    run.start()
    until(lambda: len(disk.made) == WAITING_SHARDS + 1)
    time.sleep(0.2)
    assert len(disk.made) == WAITING_SHARDS + 1
    disk.go_on.set()
    run.join(30)
    assert ended == keys


def test_a_shard_is_not_made_before_what_it_works_on_is_written() -> None:
    disk: Any = SlowDisk()
    run = threading.Thread(target=lambda: list(Here(disk).run([shard("target"), shard("swap", "target")])))
    run.start()
    until(lambda: disk.made == ["target"])
    time.sleep(0.2)
    assert disk.made == ["target"]
    disk.go_on.set()
    run.join(30)
    assert disk.made == ["target", "swap"]


def test_a_full_disk_ends_the_run_soon() -> None:
    disk: Any = SlowDisk(InputError("cannot write to the store", "Free some space"))
    with pytest.raises(InputError, match="cannot write"):
        list(Here(disk).run([shard(f"k{number}") for number in range(50)]))
    assert len(disk.made) < 50


def test_closing_a_run_leaves_no_thread(plan: Plan, store: Store) -> None:
    run = local_runner(plan, store, ("cpu",)).run(in_order(plan.shards))
    first, _ = next(run)
    run.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writer")]
    assert first.key in store.notes.read()
    assert len(store.notes.read()) < len(plan.shards)


def test_a_runner_may_run_again(plan: Plan, store: Store) -> None:
    runner, shards = local_runner(plan, store, ("cpu",)), in_order(plan.shards)
    keys = [shard.key for part in (shards[:3], shards[3:]) for shard, _ in runner.run(part)]
    assert keys == [shard.key for shard in shards]

"""The runners of a flow: a signal at a bad moment, and the cluster's form on Prefect's own threads."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect import flow
from prefect.exceptions import TerminationSignal
from prefect.testing.utilities import prefect_test_harness

from flows import building, tasks
from flows.building import Cluster, HereInTasks
from flows.remote import Source
from pipelines.build import runner as runners
from pipelines.build.runner import Ended, Failure
from pipelines.build.shares import in_order
from pipelines.make.rows import seed_of
from pipelines.plan.shards import Shard
from pipelines.store import Store
from tests.pipelines.store.fakes import FakeSampler, fake_dataset, fake_generators, planned

SHARD = Shard("final", "S", "r", 0, 0, 0, 1, "key")


def test_a_signal_while_prefect_sets_a_task_up_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_up(*_: Any) -> None:
        try:
            raise TerminationSignal(15)
        except TerminationSignal:
            raise ValueError("Task run is not set")  # noqa: B904 (as Prefect does it)

    producer: Any = None
    monkeypatch.setattr(tasks, "shard_here", set_up)
    with pytest.raises(TerminationSignal):
        HereInTasks(producer, nullcontext).make(SHARD)


def test_any_other_value_error_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_up(*_: Any) -> None:
        raise ValueError("something else")

    producer: Any = None
    monkeypatch.setattr(tasks, "shard_here", set_up)
    with pytest.raises(ValueError, match="something else"):
        HereInTasks(producer, nullcontext).make(SHARD)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_cluster_retries_and_loses_only_what_works_on_a_failed_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runners, "RETRY_AFTER", (0.0, 0.0))
    monkeypatch.setattr(building, "IN_FLIGHT", 3)
    with fake_generators(), prefect_test_harness(server_startup_timeout=240):
        manifest = fake_dataset(tmp_path / "data")
        plan, store = planned(manifest), Store(tmp_path / "store", "fake")
        victim = next(shard for shard in plan.shards if (shard.subset, shard.step) == ("Chained", 0))
        seeds = [seed_of(plan, victim, index, 0) for index in range(victim.start, victim.stop)]
        tries: list[int] = []
        original = FakeSampler._sample

        def break_victim(self: Any, asked: list[int], settings: Any) -> np.ndarray:
            if asked == seeds:
                tries.append(1)
                raise RuntimeError("the device fell over")
            return original(self, asked, settings)

        monkeypatch.setattr(FakeSampler, "_sample", break_victim)

        @flow(name="cluster")
        def through() -> list[Ended]:
            return list(Cluster(Source(str(manifest), None, str(tmp_path / "store"), "cpu")).run(in_order(plan.shards)))

        ended = dict(through())
    failures = {shard: result.reason for shard, result in ended.items() if isinstance(result, Failure)}
    assert len(tries) == 3
    assert failures.pop(victim) == "RuntimeError: the device fell over"
    ((dependent, reason),) = failures.items()
    assert reason == f"its input {victim.title} failed"
    assert set(store.notes.read()) == plan.keys - {victim.key, dependent.key}

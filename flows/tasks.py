"""The Prefect tasks that make shards. Each calls one plain function that runs without Prefect too. Those of detectors are in
`flows/detector_tasks.py`: a build is not to load what trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.logs import SHARD
from flows.remote import make_shard
from pipelines.plan.shards import Shard

Result = TypeVar("Result")


@task(name=SHARD, task_run_name="{shard.title}", cache_policy=NO_CACHE, persist_result=False)
def shard_here(make: Callable[[Shard], Result], shard: Shard, hold: Callable[[], AbstractContextManager[None]]) -> Result:
    """What `make` gives for a shard, on this machine, while it holds a place of the server's limit."""
    with hold():
        return make(shard)


shard_on_cluster = task(make_shard, name=SHARD, cache_policy=NO_CACHE, persist_result=False)

"""The Prefect tasks of the flows. Each is named once, here, and calls one plain function that runs without Prefect too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import judging
from flows.remote import make_shard
from generators.errors import InputError
from pipelines.build.build import RETRY_AFTER, Attempt
from pipelines.make.make import Outcome
from pipelines.plan.shards import Shard


@task(name="shard", task_run_name="{shard.title}", cache_policy=NO_CACHE, persist_result=False)
def shard_here(attempt: Attempt, shard: Shard, hold: Callable[[], AbstractContextManager[None]]) -> Outcome | None:
    """Makes a shard in this process, while it holds a place of the server's limit."""
    with hold():
        return attempt(shard)


def _is_worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    return not isinstance(state.result(raise_on_failure=False), InputError)


shard_on_cluster = task(
    make_shard,
    name="shard",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_AFTER),
    retry_delay_seconds=list(RETRY_AFTER),
    retry_condition_fn=_is_worth_a_retry,
)

train_ntf = task(judging.train_detector, name="train-ntf", cache_policy=NO_CACHE, persist_result=False)
evaluate_ntf = task(judging.evaluate_detector, name="evaluate-ntf", cache_policy=NO_CACHE, persist_result=False)
robustness_ntf = task(judging.measure_robustness, name="robustness-ntf", cache_policy=NO_CACHE, persist_result=False)
explain_ntf = task(judging.explain_ntf, name="explain-ntf", cache_policy=NO_CACHE, persist_result=False)

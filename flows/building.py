"""Building a version in a flow: here on one device or several, on the machines of a Ray cluster, or shared out over a work pool."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_image_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows import console, tasks
from flows.data import plan_of
from flows.orphans import end_with_worker
from flows.remote import Source
from flows.report import sample_sheet
from generators.errors import InputError
from pipelines.build.build import Build, BuildReport, OnShard, require_gate
from pipelines.make.make import Outcome
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store

LIMIT = "ntf-generating"  # a global concurrency limit of this name bounds the shards in the making, over all machines
LEASE = 60.0  # seconds until the place of a killed holder is free again; Prefect's own 300 would leave a GPU idle
IN_FLIGHT = 256  # tasks given to a cluster at once: thousands would choke the server
POLL = 5.0
PATIENCE = 1800.0  # seconds without a new shard after which the shares that still run are taken to be lost
UPDATE_EVERY = 2.0  # seconds between updates of the progress bar in Prefect's page


def build_version(plan: Plan, source: Source, shares: int = 1) -> BuildReport:
    """Makes the missing shards, one task each, commits and audits them. Progress shows in the terminal, in Prefect's page, or both.

    CheckFailed, with the version committed, if its audit fails and the manifest does not allow that.

    A flow with a cluster's task runner makes them on the cluster. With several `shares` that many runs of the deployment `make-shards`
    make them, wherever the workers of its pool are; what a lost worker left undone is then made here.
    """
    logger = get_run_logger()
    dataset = Store(source.store, plan.manifest.dataset)
    if shares > 1:
        with dataset.building():
            _share_out(source, shares, dataset)
    with Build(plan, dataset, source.device) as build:
        logger.info("%d shards to make, %d present, %d stale", len(build.missing), build.reused, len(build.stale))
        _make_all(build, source)
        built = build.report(build.commit())
    create_table_artifact(_ledger(built), key="ledger", description=f"What the build of {plan.manifest.dataset} did")
    create_image_artifact(sample_sheet(dataset), key="sheet", description=f"The first fakes of each subset of {dataset.name}")
    if built.audit is not None:
        logger.info("audit: %s", built.audit.gate.reason)
    require_gate(plan, dataset)
    return built


@flow(name="make-shards", log_prints=False, validate_parameters=True)
def make_shards(
    manifest: str = "demo", store: str = "store", device: str = "auto", limit: int | None = None, share: int = 0, of: int = 1
) -> int:
    """Makes the missing shards of share number `share` of `of`. Gives how many. The build that shared them out commits them."""
    end_with_worker()
    plan = plan_of(manifest, limit)
    with Build(plan, Store(store, plan.manifest.dataset), device, (share, of)) as build:
        _make_all(build, Source(manifest, limit, store, device))
        build.notes()
        if build.failures:
            first = next(iter(build.failures.values()))
            get_run_logger().error("%d shards failed, such as %s: %s", len(build.failures), first.shard.title, first.reason)
        return len(build.missing) - len(build.failures)


def _make_all(build: Build, source: Source) -> None:
    bar = create_progress_artifact(0.0, key="shards", description=f"Shards of {build.plan.manifest.dataset}")
    logger = get_run_logger()
    updated = 0.0
    with console.shard_progress(lines=False) as show:  # Prefect logs them

        def on_shard(shard: Shard, outcome: Outcome | None, done: int, total: int) -> None:
            nonlocal updated
            show(shard, outcome, done, total)
            logger.info(console.describe(shard, outcome))
            if done == total or time.monotonic() - updated > UPDATE_EVERY:
                updated = time.monotonic()
                try:
                    update_progress_artifact(bar, 100 * done / total)
                except httpx.HTTPError as error:  # a build outlives a server that is away for a while
                    logger.warning("the progress cannot be shown: %s", error)

        context = FlowRunContext.get()
        if context is None or isinstance(context.task_runner, ThreadPoolTaskRunner):
            hold = _limited()
            build.run(on_shard, lambda attempt, shard: tasks.shard_here(attempt, shard, hold))
        else:
            _make_on_cluster(build, source, on_shard)


def _limited() -> Callable[[], AbstractContextManager[None]]:
    """What to hold while a shard is made: a place of the server's limit, if it has one."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return nullcontext
    return lambda: concurrency(LIMIT, occupy=1, lease_duration=LEASE, strict=True)


def _make_on_cluster(build: Build, source: Source, on_shard: OnShard) -> None:
    """Submits every shard to the flow's task runner, those that it works on before it, and takes in the notes of what was written."""
    futures: dict[str, PrefectFuture[Any]] = {}
    waiting: deque[Shard] = deque()
    done = 0

    def collect() -> None:
        nonlocal done
        shard, outcome = waiting.popleft(), None
        try:
            outcome, note = futures[shard.key].result()
            build.adopt(shard, note)
        except InputError:
            raise
        except Exception as error:
            build.fail(shard, f"{type(error).__name__}: {error}")
        done += 1
        on_shard(shard, outcome, done, len(build.missing))

    for shard in build.missing:
        above = [futures[key] for key in shard.inputs if key in futures]
        futures[shard.key] = tasks.shard_on_cluster.with_options(task_run_name=shard.title).submit(source, shard.key, wait_for=above)
        waiting.append(shard)
        if len(waiting) >= IN_FLIGHT:
            collect()
    while waiting:
        collect()


def _share_out(source: Source, shares: int, dataset: Store) -> None:
    """Runs `make-shards` once for each share and waits until all have ended, however they ended, or nothing has come for `PATIENCE`.

    A run that is killed with its worker never ends in Prefect's eyes.
    """
    parameters = {"manifest": source.manifest, "store": source.store, "device": source.device, "limit": source.limit, "of": shares}
    waiting = {}
    for share in range(shares):
        name = f"share {share + 1} of {shares}"
        run = run_deployment("make-shards/make-shards", parameters={**parameters, "share": share}, flow_run_name=name, timeout=0)
        waiting[run.id] = name
    logger = get_run_logger()
    pending = dataset.root.child(f"{dataset.name}.pending")
    written, since = -1, time.monotonic()
    with get_client(sync_client=True) as client:
        while waiting:
            time.sleep(POLL)
            for number in list(waiting):
                state = client.read_flow_run(number).state
                if state is not None and state.is_final():
                    logger.info("%s: %s", waiting.pop(number), state.name)
            if len(pending.sizes()) != written:
                written, since = len(pending.sizes()), time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                logger.warning("nothing has come for %d minutes from %s: making the rest here", PATIENCE / 60, ", ".join(waiting.values()))
                return


def _ledger(built: BuildReport) -> list[list[Any]]:
    rows: list[list[Any]] = [["what", "images"], ["written", built.images]]
    for subset, reasons in built.rejected.items():
        rows += [[f"{subset}: {reason}", count] for reason, count in reasons.items()]
    return rows + [[f"failed: {failure.shard.title}: {failure.reason}", failure.shard.count] for failure in built.failures]

"""Building a version in a flow: here on one device or several, on the machines of a Ray cluster, or shared out over a work pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.futures import PrefectFuture
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts, console, tasks
from flows.data import plan_of
from flows.logs import one_line_for_a_shard, run_logger
from flows.progress import shard_progress
from flows.remote import Source
from flows.spread import Spread
from foreign.text import visible
from generators.errors import InputError
from pipelines.build.build import Build, BuildReport, require_gate
from pipelines.build.claims import make_claimed
from pipelines.build.devices import parse_devices
from pipelines.build.producer import Producer
from pipelines.build.runner import Ended, Failure, Here, Processes, Runner, failure_of, input_failure
from pipelines.build.shares import OnShard
from pipelines.build.workers import Worker
from pipelines.make.rows import ShardPictures
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from pipelines.store.pending import Note

Hold = Callable[[], AbstractContextManager[None]]

LIMIT = "ntf-generating"  # a global concurrency limit of this name bounds the shards in the making, over all machines
LEASE = 60.0  # seconds until the place of a killed holder is free again; Prefect's own 300 would leave a GPU idle
IN_FLIGHT = 256  # tasks given to a cluster at once: thousands would choke the server


def build_version(plan: Plan, source: Source, shares: int = 1, flow_name: str = "", wait: bool = True) -> BuildReport:
    """Makes the missing shards, one task each, commits and audits them. Progress shows in the terminal, in Prefect's page, or both.

    The version has `flow_name` among its properties.

    CheckFailed, with the version committed, if its audit fails and the manifest does not allow that.

    A flow with a cluster's task runner makes them on the cluster. With several `shares` that many runs of the deployment `make-shards`
    make them, wherever the workers of its pool are, and nothing is made here. While another build holds the dataset it waits, or with
    `wait` off it is StoreBusy.
    """
    logger = run_logger()
    dataset = Store(source.store, plan.manifest.dataset)
    with Build(plan, dataset, source.device, source.deliveries, wait=wait, elsewhere=shares > 1, batch=source.batch) as build:
        logger.info("%d shards to make, %d present, %d stale", len(build.missing), build.reused, len(build.stale))
        with _progress(dataset.name) as on_shard:
            build.run(on_shard, Spread(source, shares, plan, dataset) if shares > 1 else _runner(plan, dataset, source))
        built = build.report(build.commit({"flow": flow_name} if flow_name else None))
    artifacts.show_ledger(built, dataset.name)
    artifacts.show_sheet(dataset)
    if built.audit is not None:
        logger.info("audit: %s", built.audit.gate.reason)
    for name, delivered in built.delivered.items():
        logger.info("audit of %s: %s", name, delivered.gate.reason)
    require_gate(plan, dataset)
    return built


def make_share(source: Source, workers: int) -> State[dict[str, Any]]:
    """Makes missing shards until none is left, as one of `workers` that share them: see `flows.make_shards.make_shards`."""
    plan = plan_of(source.manifest, source.limit)
    plan.require_complete()
    dataset = Store(source.store, plan.manifest.dataset)
    with _progress(dataset.name) as on_shard:
        shards = make_claimed(plan, dataset, _runner(plan, dataset, source), workers, on_shard, source.deliveries)
    message = f"{len(shards.notes)} shards made"
    if shards.failures:
        first = shards.failures[0]
        message += f", {len(shards.failures)} failed, such as {visible(first.shard.title)}: {visible(first.reason)}"
    return Completed(message=message, data={"made": len(shards.notes), "failed": len(shards.failures)})


@contextmanager
def _progress(dataset: str) -> Iterator[OnShard]:
    """Shows shards as they end: in the terminal, in the log, and as a bar in Prefect's page."""
    update = artifacts.show_shards(dataset)
    logger = run_logger()
    with shard_progress(lines=False) as show, one_line_for_a_shard():  # Prefect logs them

        def on_shard(shard: Shard, note: Note | None, done: int, total: int) -> None:
            show(shard, note, done, total)
            logger.info(console.describe(shard, note))
            update(done, total)

        yield on_shard


class HereInTasks(Here):
    """`Here`, with a task for each shard."""

    def __init__(self, producer: Producer, hold: Hold):
        super().__init__(producer)
        self._hold = hold

    def make(self, shard: Shard) -> ShardPictures | Failure:
        try:
            return tasks.shard_here(super().make, shard, self._hold)
        except ValueError as error:
            # A signal while Prefect sets a task up: it then cannot mark the run, which is not made yet, and raises this ValueError for it.
            if isinstance(error.__context__, TerminationSignal):
                raise error.__context__ from None
            raise


class ProcessesInTasks(Processes):
    """`Processes`, with a task for each shard."""

    def __init__(self, plan: Plan, store: Store, devices: Sequence[str], hold: Hold, batch: int | None = None):
        super().__init__(plan, store, devices, batch)
        self._hold = hold

    def make(self, shard: Shard, worker: Worker) -> Note | Failure:
        return tasks.shard_here(partial(super().make, worker=worker), shard, self._hold)


class Cluster(Runner):
    """Makes shards with the task runner of the flow that runs, such as Ray's, in processes on any machine."""

    def __init__(self, source: Source):
        self._source = source

    def run(self, shards: Sequence[Shard]) -> Generator[Ended, None, None]:
        """See `Runner.run`. A shard is submitted as a task that waits for the tasks of its inputs."""
        futures: dict[str, PrefectFuture[Note]] = {}
        failures: dict[str, Failure] = {}
        waiting: deque[Shard] = deque()

        def next_ended() -> Ended:
            shard = waiting.popleft()
            result: Note | Failure
            try:
                result = input_failure(shard, failures) or futures[shard.key].result()
            except InputError:
                raise
            except Exception as error:
                result = failure_of(shard, error)
            if isinstance(result, Failure):
                failures[shard.key] = result
            return shard, result

        for shard in shards:
            above = [futures[key] for key in shard.inputs if key in futures]
            make = tasks.shard_on_cluster.with_options(task_run_name=visible(shard.title))
            futures[shard.key] = make.submit(self._source, shard.key, wait_for=above)
            waiting.append(shard)
            if len(waiting) >= IN_FLIGHT:
                yield next_ended()
        while waiting:
            yield next_ended()


def _runner(plan: Plan, dataset: Store, source: Source) -> Runner:
    """Who makes the shards: the task runner of this flow if it has a cluster's, or else this machine."""
    context = FlowRunContext.get()
    if context is not None and not isinstance(context.task_runner, ThreadPoolTaskRunner):
        return Cluster(source)
    devices, hold = parse_devices(source.device), _limited()
    if len(devices) == 1:
        return HereInTasks(Producer(plan, dataset, devices[0], source.batch), hold)
    return ProcessesInTasks(plan, dataset, devices, hold, source.batch)


def _limited() -> Hold:
    """What to hold while a shard is made: a place of the server's limit, if it has one."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return nullcontext
    return lambda: concurrency(LIMIT, occupy=1, lease_duration=LEASE, strict=True)

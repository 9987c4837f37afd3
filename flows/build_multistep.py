"""`build-multistep`, the main job, and its parts: `build-dataset`, `train-ntf` and `evaluate-ntf`.

The flows are thin. Each task calls one plain function, and the same functions run without Prefect from `ntf build`, `ntf train`, ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from flows import console, jobs
from pipelines.build import Build, BuildReport
from pipelines.plan import Plan, Shard
from pipelines.store import Store


@flow(name="build-multistep", log_prints=False, validate_parameters=True)
def build_multistep(
    manifest: str = "demo", store: str = "store", output: str = "runs", device: str = "auto", limit: int | None = None
) -> dict[str, Any]:
    """Builds what is missing of `manifest` (a file, or `demo` or `paper`) into `store`, trains and judges NTF, and writes the report.

    `limit` bounds the fakes of each part of a subset, to try a manifest out. Gives the version, its digest, what was made, and the report.
    """
    plan = jobs.plan_of(manifest, limit)
    dataset = Store(store, plan.manifest.dataset)
    built = build_version(plan, dataset, device)
    version = dataset.version()
    folder = Path(output) / plan.manifest.dataset
    run = folder / f"ntf-{version.digest[:12]}"
    if not (run / jobs.EVALUATION_FILE).is_file():  # this very dataset has not been learnt yet
        _learn(plan, dataset, run, device)
        _judge(run, dataset)
    page = jobs.report(dataset, folder / "report.html", version.number, (run,))
    create_link_artifact(page.resolve().as_uri(), link_text=f"Report of {dataset.name}, version {version.number}", key="report")
    return {**_summary(built, dataset), "run": str(run), "report": str(page)}


@flow(name="build-dataset", log_prints=False, validate_parameters=True)
def build_dataset(manifest: str = "demo", store: str = "store", device: str = "auto", limit: int | None = None) -> dict[str, Any]:
    """Builds what is missing of `manifest` into `store`, and nothing more."""
    plan = jobs.plan_of(manifest, limit)
    dataset = Store(store, plan.manifest.dataset)
    return _summary(build_version(plan, dataset, device), dataset)


@flow(name="train-ntf", log_prints=False, validate_parameters=True)
def train_ntf(manifest: str = "demo", store: str = "store", run: str = "runs/ntf", device: str = "auto") -> str:
    """Trains NTF, as the manifest's `detector` says, on the newest version of its dataset. Goes on where a stopped run was."""
    plan = jobs.plan_of(manifest)
    _learn(plan, Store(store, plan.manifest.dataset), Path(run), device)
    return run


@flow(name="evaluate-ntf", log_prints=False, validate_parameters=True)
def evaluate_ntf(dataset: str = "demo", store: str = "store", run: str = "runs/ntf") -> str:
    """Judges the detector in `run` on the test split of the newest version of `dataset`."""
    _judge(Path(run), Store(store, dataset))
    return run


def build_version(plan: Plan, dataset: Store, device: str) -> BuildReport:
    """Makes the missing shards, one task each, and commits them. Shows progress in the terminal, or in Prefect's page, or both."""
    logger = get_run_logger()
    with Build(plan, dataset, device) as build:
        logger.info("%d shards to make, %d present, %d stale", len(build.missing), build.reused, len(build.stale))
        bar = create_progress_artifact(0.0, key="shards", description=f"Shards of {plan.manifest.dataset}")
        make = task(_make_shard, name="shard", task_run_name="{shard.title}", cache_policy=NO_CACHE, persist_result=False)
        with console.shard_progress(lines=False) as show:  # Prefect logs them
            for done, shard in enumerate(build.missing, start=1):
                logger.info(make(build.attempt, shard, show, done, len(build.missing)))
                update_progress_artifact(bar, 100 * done / len(build.missing))
        built = build.report(build.commit())
    create_table_artifact(_ledger(built), key="ledger", description=f"What the build of {plan.manifest.dataset} did")
    return built


def _make_shard(make: Any, shard: Shard, show: Any, done: int, total: int) -> str:
    outcome = make(shard)
    show(shard, outcome, done, total)
    return console.describe(shard, outcome)


def _learn(plan: Plan, dataset: Store, run: Path, device: str) -> None:
    splits = jobs.splits_of_store(dataset)
    fit = task(jobs.train_detector, name="train-ntf", cache_policy=NO_CACHE, persist_result=False)
    chosen = None if device == "auto" else device
    with console.step_progress("train") as show:
        fit("ntf", splits, run, jobs.detector_settings(plan.manifest), resume=True, device=chosen, on_progress=show)


def _judge(run: Path, dataset: Store) -> None:
    judge = task(jobs.judge_detector, name="evaluate-ntf", cache_policy=NO_CACHE, persist_result=False)
    with console.step_progress("evaluate") as show:
        judged = judge(run, jobs.splits_of_store(dataset), on_progress=show)
    create_markdown_artifact((run / "results.md").read_text(encoding="utf-8"), key="results", description=judged.evaluation.title)


def _summary(built: BuildReport, dataset: Store) -> dict[str, Any]:
    version = dataset.version()
    return {
        "version": version.number,
        "digest": version.digest,
        "made": built.made,
        "reused": built.reused,
        "dropped": built.dropped,
        "rejected": built.rejected,
        "failed": [failure.shard.title for failure in built.failures],
    }


def _ledger(built: BuildReport) -> list[list[Any]]:
    rows: list[list[Any]] = [["what", "images"], ["written", built.images]]
    for subset, reasons in built.rejected.items():
        rows += [[f"{subset}: {reason}", count] for reason, count in reasons.items()]
    return rows + [[f"failed: {failure.shard.title}: {failure.reason}", failure.shard.count] for failure in built.failures]

"""`build-multistep`, the main job: build a dataset, commit a version, train the detector on it, judge it, write the page.

The flow is thin. Each task calls one plain function, and the same functions run without Prefect from `ntf build`, `ntf train`, ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from flows import console, jobs
from pipelines.build import Build
from pipelines.plan import Shard
from pipelines.store import Store


@flow(name="build-multistep", log_prints=False, validate_parameters=True)
def build_multistep(
    manifest: str = "demo",
    store: str = "store",
    output: str = "runs",
    device: str = "auto",
    limit: int | None = None,
    train: bool = True,
) -> dict[str, Any]:
    """Builds what is missing of `manifest` (a file, or `demo` or `paper`) into `store`, trains and judges NTF, and writes the report.

    `limit` bounds the fakes of each part of a subset, to try a manifest out. Gives the version, its digest, what was made, and the report.
    """
    logger = get_run_logger()
    plan = jobs.plan_of(manifest, limit)
    dataset = Store(store, plan.manifest.dataset)
    with Build(plan, dataset, device) as build:
        logger.info("%d shards to make, %d present, %d stale", len(build.missing), build.reused, len(build.stale))
        bar = create_progress_artifact(0.0, key="shards", description=f"Shards of {plan.manifest.dataset}")
        make = task(_make_shard, name="shard", task_run_name="{shard.title}", cache_policy=NO_CACHE, persist_result=False)
        with console.shard_progress(lines=False) as show:  # Prefect logs them
            for done, shard in enumerate(build.missing, start=1):
                logger.info(make(build.attempt, shard, show, done, len(build.missing)))
                update_progress_artifact(bar, 100 * done / len(build.missing))
        version = build.commit()
        built = build.report(version)
    current = dataset.version()
    logger.info("version %d, digest %s: %d shards made, %d reused", current.number, current.digest[:16], built.made, built.reused)
    run = Path(output) / plan.manifest.dataset / f"ntf-{current.digest[:12]}"
    if train:
        _train(plan, dataset, run, device)
    page = jobs.report(dataset, Path(output) / plan.manifest.dataset / "report.html", current.number, (run,) if train else ())
    create_markdown_artifact(f"[Report of {dataset.name}, version {current.number}]({page.resolve().as_uri()})", key="report")
    return {
        "version": current.number,
        "digest": current.digest,
        "made": built.made,
        "reused": built.reused,
        "dropped": built.dropped,
        "rejected": built.rejected,
        "run": str(run) if train else None,
        "report": str(page),
    }


def _make_shard(make: Any, shard: Shard, show: Any, done: int, total: int) -> str:
    outcome = make(shard)
    show(shard, outcome, done, total)
    return console.describe(shard, outcome)


def _train(plan: Any, dataset: Store, run: Path, device: str) -> None:
    """Trains and judges NTF, unless the run for this very dataset and configuration is there already."""
    settings = jobs.detector_settings(plan.manifest)
    if (run / jobs.EVALUATION_FILE).is_file():
        return
    splits = jobs.splits_of_store(dataset)
    device_or_best = None if device == "auto" else device
    fit = task(jobs.train_detector, name="train-ntf", cache_policy=NO_CACHE, persist_result=False)
    judge = task(jobs.judge_detector, name="evaluate-ntf", cache_policy=NO_CACHE, persist_result=False)
    with console.step_progress("train") as show:
        fit("ntf", splits, run, settings, resume=True, device=device_or_best, on_progress=show)
    with console.step_progress("evaluate") as show:
        judged = judge(run, splits, on_progress=show)
    create_markdown_artifact((run / "results.md").read_text(encoding="utf-8"), key="results", description=judged.evaluation.title)

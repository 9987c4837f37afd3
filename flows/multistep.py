"""What the flows of `flows/build_multistep.py` do. Each task calls one plain function, and the same functions run without Prefect from
`ntf build`, `ntf train`, ..."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows import artifacts, detector_tasks, report
from flows.building import build_version
from flows.current import CURRENT_FILE, Current, write_current
from flows.data import delivered_tests, deliveries_to_build, plan_of, splits_of_store
from flows.outputs import Outputs
from flows.progress import step_progress
from flows.remote import Source
from ntf_model import runs
from pipelines.build.build import BuildReport
from pipelines.errors import CheckFailed
from pipelines.plan.plan import Plan
from pipelines.store import Store


def build_and_judge(source: Source, deliveries: Iterable[str] | None, output: str, shares: int, examine: bool) -> dict[str, Any]:
    """Builds what is missing, trains and evaluates NTF, and writes the report: see `flows.build_multistep.build_multistep`."""
    plan = plan_of(source.manifest, source.limit)
    dataset = Store(source.store, plan.manifest.dataset)
    outputs = Outputs(output, plan.manifest.dataset)
    folder = outputs.folder
    try:
        built = build_version(plan, _with_deliveries(source, plan, deliveries), shares)
    except CheckFailed:  # of a version that is committed but failed the audit's gate the page shows why
        if dataset.exists():
            report.write_page(dataset, folder / "report.html")
            outputs.keep("report.html")
        raise
    version = dataset.version()
    run = folder / f"ntf-{version.digest[:12]}"
    outputs.take(run.name)
    if not (run / runs.EVALUATION_FILE).is_file():  # no detector of exactly these images has been evaluated yet
        _train(plan, dataset, run, source.device)
        outputs.keep(run.name)
        _evaluate(run, dataset)
    if examine:
        _examine(run, dataset)
    page = report.write_page(dataset, folder / "report.html", version.number, (run,))
    write_current(folder, Current(run, version.number))
    outputs.keep(run.name, "report.html", CURRENT_FILE)
    artifacts.show_report(page, outputs, dataset)
    return {**_summary(built, dataset), "run": str(run), "report": str(page) if outputs.place.is_local else outputs.uri(page.name)}


def build_alone(source: Source, deliveries: Iterable[str] | None, shares: int) -> dict[str, Any]:
    """Builds what is missing, and nothing more: see `flows.build_multistep.build_dataset`."""
    plan = plan_of(source.manifest, source.limit)
    dataset = Store(source.store, plan.manifest.dataset)
    return _summary(build_version(plan, _with_deliveries(source, plan, deliveries), shares), dataset)


def train_newest(manifest: str, store: str, run: str, device: str) -> None:
    """Trains NTF on the newest version of the manifest's dataset, into the folder `run`."""
    plan = plan_of(manifest)
    _train(plan, Store(store, plan.manifest.dataset), Path(run), device)


def evaluate_newest(dataset: str, store: str, run: str) -> None:
    """Evaluates the detector in `run` on the test split of the newest version of `dataset`."""
    _evaluate(Path(run), Store(store, dataset))


def _with_deliveries(source: Source, plan: Plan, asked: Iterable[str] | None) -> Source:
    return replace(source, deliveries=deliveries_to_build(plan.manifest, asked))


def _train(plan: Plan, dataset: Store, run: Path, device: str) -> None:
    splits = splits_of_store(dataset, deliveries=plan.manifest.detector.deliveries)
    detector_tasks.train_as_stated(plan.manifest, splits, run, device)


def _evaluate(run: Path, dataset: Store) -> None:
    with step_progress("evaluate") as show:
        evaluated = detector_tasks.evaluate_ntf(run, splits_of_store(dataset), delivered=delivered_tests(dataset), on_progress=show)
    create_markdown_artifact(
        (run / f"{runs.RESULTS}.md").read_text(encoding="utf-8"), key="results", description=evaluated.evaluation.title
    )


def _examine(run: Path, dataset: Store) -> None:
    """Robustness and explanation of the detector in `run`, as far as they are not there yet."""
    splits = splits_of_store(dataset)
    if not (run / runs.ROBUSTNESS_FILE).is_file():
        with step_progress("robustness") as show:
            detector_tasks.robustness_ntf(run, splits, on_progress=show)
    if not (run / runs.EMBEDDINGS_FILE).is_file():
        detector_tasks.explain_ntf(run, splits, run)


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

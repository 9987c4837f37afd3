"""`build-multistep`, the main job, and its parts: `build-dataset`, `train-ntf` and `evaluate-ntf`.

The flows are thin. Each task calls one plain function, and the same functions run without Prefect from `ntf build`, `ntf train`, ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows import artifacts, report, tasks
from flows.building import build_version
from flows.current import CURRENT_FILE, Current, write_current
from flows.data import delivered_tests, deliveries_to_build, detector_settings, plan_of, splits_of_store
from flows.lasting import require_lasting
from flows.orphans import end_with_worker
from flows.outputs import Outputs
from flows.progress import step_progress
from flows.remote import Source
from ntf_model import runs
from pipelines.build.build import BuildReport
from pipelines.build.devices import parse_devices
from pipelines.errors import CheckFailed
from pipelines.plan.plan import Plan
from pipelines.store import Store

# What Prefect's page says of each flow and its deployment. It takes what it says of the parameters from the docstrings.
MAIN = "Builds what is missing of a dataset, commits a version, trains and evaluates NTF on it, and writes the report."
BUILD = "Builds what is missing of a dataset and commits a version."
TRAIN = "Trains NTF on the newest version of a dataset, or goes on with a training that was stopped."
EVALUATE = "Evaluates a trained detector on the test split of the newest version of a dataset."


@flow(name="build-multistep", description=MAIN, log_prints=False, validate_parameters=True)
def build_multistep(
    manifest: str = "demo",
    store: str = "store",
    output: str = "runs",
    device: str = "auto",
    limit: int | None = None,
    shares: int = 1,
    examine: bool = False,
    batch: int | None = None,
    deliveries: list[str] | None = None,
) -> dict[str, Any]:
    """Builds what is missing of `manifest` (a file or a name) into `store`, trains and evaluates NTF, and writes the report.

    The detector is noted as the one in use, which the next `refresh` compares with. Gives the version, its digest, what was made, and the
    report.

    Args:
        manifest: The manifest: the name of one that ships (demo, paper), or a file in the worker's folder of manifests.
        store: The folder or the prefix on an object storage that holds the datasets.
        output: The folder, or the prefix on an object storage, for detectors, results and reports.
        device: What to run on: auto, cpu, cuda:0, or several GPUs, such as 0,1,2,3.
        limit: At most this many fakes of each part of a subset, to try a manifest out.
        shares: How many runs of make-shards share the work over a work pool. 1: this run makes all.
        examine: Also evaluate the detector on degraded images and explain it, for the report.
        batch: How many images are made at once. If not given, a GPU makes as many as fit and pay, and a CPU a few.
        deliveries: Deliveries of the manifest to make too, by name; those that its detector learns from are made in any case.
    """
    end_with_worker()
    require_lasting(store=store, output=output)
    plan = plan_of(manifest, limit)
    dataset = Store(store, plan.manifest.dataset)
    outputs = Outputs(output, plan.manifest.dataset)
    folder = outputs.folder
    try:
        source = Source(manifest, limit, store, device, batch, deliveries_to_build(plan.manifest, deliveries))
        built = build_version(plan, source, shares)
    except CheckFailed:  # of a version that is committed but failed the audit's gate the page shows why
        if dataset.exists():
            report.write_page(dataset, folder / "report.html")
            outputs.keep("report.html")
        raise
    version = dataset.version()
    run = folder / f"ntf-{version.digest[:12]}"
    outputs.take(run.name)
    if not (run / runs.EVALUATION_FILE).is_file():  # no detector of exactly these images has been evaluated yet
        _train(plan, dataset, run, device)
        outputs.keep(run.name)
        _evaluate(run, dataset)
    if examine:
        _examine(run, dataset)
    page = report.write_page(dataset, folder / "report.html", version.number, (run,))
    write_current(folder, Current(run, version.number))
    outputs.keep(run.name, "report.html", CURRENT_FILE)
    artifacts.show_report(page, outputs, dataset)
    return {**_summary(built, dataset), "run": str(run), "report": str(page) if outputs.place.is_local else outputs.uri(page.name)}


@flow(name="build-dataset", description=BUILD, log_prints=False, validate_parameters=True)
def build_dataset(
    manifest: str = "demo",
    store: str = "store",
    device: str = "auto",
    limit: int | None = None,
    shares: int = 1,
    batch: int | None = None,
    deliveries: list[str] | None = None,
) -> dict[str, Any]:
    """Builds what is missing of `manifest` into `store`, and nothing more.

    Args:
        manifest: The manifest: the name of one that ships (demo, paper), or a file in the worker's folder of manifests.
        store: The folder or the prefix on an object storage that holds the datasets.
        device: What to run on: auto, cpu, cuda:0, or several GPUs, such as 0,1,2,3.
        limit: At most this many fakes of each part of a subset, to try a manifest out.
        shares: How many runs of make-shards share the work over a work pool. 1: this run makes all.
        batch: How many images are made at once. If not given, a GPU makes as many as fit and pay, and a CPU a few.
        deliveries: Deliveries of the manifest to make too, by name; those that its detector learns from are made in any case.
    """
    end_with_worker()
    require_lasting(store=store)
    plan = plan_of(manifest, limit)
    dataset = Store(store, plan.manifest.dataset)
    source = Source(manifest, limit, store, device, batch, deliveries_to_build(plan.manifest, deliveries))
    return _summary(build_version(plan, source, shares), dataset)


@flow(name="train-ntf", description=TRAIN, log_prints=False, validate_parameters=True)
def train_ntf(manifest: str = "demo", store: str = "store", run: str = "runs/ntf", device: str = "auto") -> str:
    """Trains NTF, as the manifest's `detector` says, on the newest version of its dataset. Goes on where a stopped run was.

    Args:
        manifest: The manifest: the name of one that ships (demo, paper), or a file in the worker's folder of manifests.
        store: The folder or the prefix on an object storage that holds the datasets.
        run: The folder of the trained detector.
        device: What to run on: auto, cpu, cuda:0, or several GPUs, such as 0,1,2,3.
    """
    end_with_worker()
    require_lasting(store=store, run=run)
    plan = plan_of(manifest)
    _train(plan, Store(store, plan.manifest.dataset), Path(run), device)
    return run


@flow(name="evaluate-ntf", description=EVALUATE, log_prints=False, validate_parameters=True)
def evaluate_ntf(dataset: str = "demo", store: str = "store", run: str = "runs/ntf") -> str:
    """Evaluates the detector in `run` on the test split of the newest version of `dataset`.

    Args:
        dataset: The name of the dataset in the store.
        store: The folder or the prefix on an object storage that holds the datasets.
        run: The folder of the trained detector.
    """
    end_with_worker()
    require_lasting(store=store, run=run)
    _evaluate(Path(run), Store(store, dataset))
    return run


def _train(plan: Plan, dataset: Store, run: Path, device: str) -> None:
    splits = splits_of_store(dataset, deliveries=plan.manifest.detector.deliveries)
    chosen = None if device == "auto" else parse_devices(device)[0]
    with step_progress("train") as show:
        tasks.train_ntf("ntf", splits, run, detector_settings(plan.manifest), resume=True, device=chosen, on_progress=show)


def _evaluate(run: Path, dataset: Store) -> None:
    with step_progress("evaluate") as show:
        evaluated = tasks.evaluate_ntf(run, splits_of_store(dataset), delivered=delivered_tests(dataset), on_progress=show)
    create_markdown_artifact(
        (run / f"{runs.RESULTS}.md").read_text(encoding="utf-8"), key="results", description=evaluated.evaluation.title
    )


def _examine(run: Path, dataset: Store) -> None:
    """Robustness and explanation of the detector in `run`, as far as they are not there yet."""
    splits = splits_of_store(dataset)
    if not (run / runs.ROBUSTNESS_FILE).is_file():
        with step_progress("robustness") as show:
            tasks.robustness_ntf(run, splits, on_progress=show)
    if not (run / runs.EMBEDDINGS_FILE).is_file():
        tasks.explain_ntf(run, splits, run)


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

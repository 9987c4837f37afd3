"""`refresh` registers new checkpoints, rebuilds what is stale, evaluates the detector, retrains it if the manifest says so, and reports
the drift.

It is started by the event of a new checkpoint and by a schedule, and does nothing where there is nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows import console, drift, report, tasks
from flows.building import build_version
from flows.data import detector_settings, plan_of, splits_of_store
from flows.logs import run_logger
from flows.orphans import end_with_worker
from flows.remote import Source
from foreign.json_files import read_json
from generators.errors import InputError
from generators.files import write_json
from ntf_model import runs
from ntf_model.judging.evaluate import Evaluation
from pipelines.build.build import status
from pipelines.build.devices import parse_devices
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.hub import new_revisions
from pipelines.catalogue.registering import take_incoming
from pipelines.plan.plan import Plan
from pipelines.store import Store

CURRENT_FILE = "current.json"


@dataclass(frozen=True)
class Current:
    """The detector in use: its run's folder, and the version of the dataset that it was last evaluated on."""

    run: Path
    version: int


@flow(name="refresh", log_prints=False, validate_parameters=True)
def refresh(
    manifest: str = "demo", store: str = "store", output: str = "runs", device: str = "auto", checkpoint: str | None = None
) -> dict[str, Any]:
    """Brings a dataset and its detector up to date with the checkpoints that are there now.

    `checkpoint` names the one whose event started the run; it is only logged, because the plan finds out by itself what has changed.
    Gives the version, the shards made, whether the detector was retrained, and the subsets that fell below the gate.
    """
    end_with_worker()
    logger = run_logger()
    if checkpoint:
        logger.info("started for the checkpoint %s", checkpoint)
    added, waiting = take_incoming(Catalogue.shipped())
    for checkpoint_added in added:
        logger.info("registered %s: sha256 %s", checkpoint_added.name, checkpoint_added.sha256[:16])
    for arrival in waiting:
        logger.warning("%s waits: %s", arrival.path.name, arrival.waits_for)
    for revision in new_revisions(Catalogue.shipped()):
        logger.warning("%s", revision)
    plan = plan_of(manifest)
    dataset = Store(store, plan.manifest.dataset)
    folder = Path(output) / plan.manifest.dataset
    state = status(plan, dataset)
    current = read_current(folder)
    if not state.missing and not state.stale and current is not None and current.version == dataset.version().number:
        logger.info("nothing to do: all %d shards are present", len(state.present))
        return {"version": current.version, "made": 0, "retrained": False, "fallen": []}
    before = dataset.version().number if dataset.exists() else None
    built = build_version(plan, Source(manifest, None, store, device))
    version = dataset.version()
    if built.version is not None:
        dataset.tag(f"refresh-{version.number}", version.number)
    logger.info("version %d: %d shards made, %d stale dropped", version.number, built.made, built.dropped)
    measured = _evaluate(plan, dataset, folder, (before, version.number), current, device)
    drift.add_to_history(folder, measured)
    page = report.write_page(dataset, folder / "report.html", version.number, (_in_use(folder).run,), drift.read_history(folder))
    create_markdown_artifact(drift.as_markdown(measured), key="drift", description=f"Drift of {dataset.name}")
    return {
        "version": version.number,
        "made": built.made,
        "retrained": measured.retrained,
        "fallen": measured.fallen,
        "time_to_detect": measured.time_to_detect,
        "report": str(page),
    }


def read_current(folder: Path) -> Current | None:
    """The detector in use, or None if none was trained yet. InputError if the note of it is damaged."""
    file = folder / CURRENT_FILE
    if not file.is_file():
        return None
    try:
        data = read_json(file)
        return Current(folder / data["run"], int(data["version"]))
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged", "Remove it: the next refresh trains a detector anew") from None


def _in_use(folder: Path) -> Current:
    """The detector in use. There is one: this run has evaluated it."""
    current = read_current(folder)
    assert current is not None
    return current


def write_current(folder: Path, current: Current) -> None:
    """Notes the detector in use."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CURRENT_FILE, {"run": current.run.name, "version": current.version})


def _evaluate(
    plan: Plan, dataset: Store, folder: Path, versions: tuple[int | None, int], current: Current | None, device: str
) -> drift.Drift:
    """Evaluates the detector in use on the new version, retrains it if the manifest says so, and measures what changed."""
    policy, splits = plan.manifest.detector, splits_of_store(dataset)
    before = old = None
    if current is not None:
        earlier = current.run / runs.EVALUATION_FILE
        before = Evaluation.load(earlier) if earlier.is_file() else None
        old = tasks.evaluate_ntf(current.run, splits, current.run / f"on-version-{versions[1]}").evaluation
    finished = datetime.now(UTC)
    measured = drift.measure_drift(dataset, plan, versions, before, old, None, finished)
    if current is not None and (policy.retrain == "never" or (policy.retrain == "below-gate" and not measured.fallen)):
        write_current(folder, Current(current.run, versions[1]))
        return measured
    run = folder / f"ntf-{dataset.version().digest[:12]}"
    with console.step_progress("train") as show:
        chosen = None if device == "auto" else parse_devices(device)[0]
        tasks.train_ntf("ntf", splits, run, detector_settings(plan.manifest), resume=True, device=chosen, on_progress=show)
    new = tasks.evaluate_ntf(run, splits).evaluation
    write_current(folder, Current(run, versions[1]))
    return drift.measure_drift(dataset, plan, versions, before, old, new, finished if old else datetime.now(UTC))

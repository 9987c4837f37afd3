"""What `refresh` does: it registers new checkpoints, rebuilds what is stale, evaluates the detector, retrains it if the manifest says so,
and reports the drift.

Building, judging and the report are imported where they begin. Most refreshes come by the schedule and find nothing to do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State

from flows import drift
from flows.current import CURRENT_FILE, Current, read_current, write_current
from flows.data import delivered_tests, deliveries_to_build, plan_of, splits_of_store
from flows.logs import EscapedLogger
from flows.outputs import Outputs
from flows.remote import Source
from ntf_model import runs
from pipelines.build.build import status
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.hub import new_revisions
from pipelines.catalogue.registering import take_incoming
from pipelines.plan.plan import Plan
from pipelines.reading import deliveries_of
from pipelines.store import Store, StoreBusy


def bring_up_to_date(manifest: str, store: str, output: str, device: str, logger: EscapedLogger) -> dict[str, Any] | State[dict[str, Any]]:
    """The refresh of the flow that runs: see `flows.refresh.refresh`. Says in `logger` what it finds."""
    added, waiting = take_incoming(Catalogue.shipped())
    for checkpoint_added in added:
        logger.info("registered %s: sha256 %s", checkpoint_added.name, checkpoint_added.sha256[:16])
    for arrival in waiting:
        logger.warning("%s waits: %s", arrival.path.name, arrival.waits_for)
    for revision in new_revisions(Catalogue.shipped()):
        logger.warning("%s", revision)
    plan = plan_of(manifest)
    dataset = Store(store, plan.manifest.dataset)
    outputs = Outputs(output, plan.manifest.dataset)
    outputs.take(CURRENT_FILE, drift.HISTORY_FILE)
    folder = outputs.folder
    there = deliveries_of(dataset) if dataset.exists() else []
    wanted = deliveries_to_build(plan.manifest, [name for name in there if name in plan.manifest.deliveries])
    state = status(plan, dataset, wanted)
    current = read_current(folder)
    if not state.missing and not state.stale and current is not None and current.version == dataset.version().number:
        logger.info("nothing to do: all %d shards are present", len(state.present))
        return {"version": current.version, "made": 0, "retrained": False, "fallen": []}
    before = _version_before(dataset, current)
    from flows import artifacts, report
    from flows.building import build_version

    try:
        built = build_version(plan, Source(manifest, None, store, device, deliveries=wanted), flow_name="refresh", wait=False)
    except StoreBusy as error:  # the next refresh comes by the schedule, and this one has done no harm
        logger.info("%s: the next refresh takes this up", error.message)
        return Completed(message=f"{error.message}: the next refresh takes this up", data={"version": None, "made": 0, "retrained": False})
    version = dataset.version()
    tag = f"refresh-{version.number}"
    if version.properties.get("flow") == "refresh" and tag not in version.tags:
        dataset.tag(tag, version.number)
    logger.info("version %d: %d shards made, %d stale dropped", version.number, built.made, built.dropped)
    if current is not None:
        outputs.take(current.run.name)
    measured, used = _evaluate(plan, dataset, outputs, (before, version.number), current, device)
    drift.add_to_history(folder, measured)
    page = report.write_page(dataset, folder / "report.html", version.number, (used.run,), drift.read_history(folder))
    artifacts.show_report(page, outputs, dataset)
    create_markdown_artifact(drift.as_markdown(measured), key="drift", description=f"Drift of {dataset.name}")
    write_current(folder, used)  # last: after a kill before this line, the next refresh evaluates again
    outputs.keep(used.run.name, "report.html", drift.HISTORY_FILE, CURRENT_FILE)
    return {
        "version": version.number,
        "made": built.made,
        "retrained": measured.retrained,
        "fallen": measured.fallen,
        "time_to_detect": measured.time_to_detect,
        "report": str(page) if outputs.place.is_local else outputs.uri("report.html"),
    }


def _version_before(dataset: Store, current: Current | None) -> int | None:
    """The version that a refresh starts from: the one that the detector in use was last evaluated on, as far as it is still there.

    A refresh that was killed after its commit so reports the whole step. None if there is no version.
    """
    numbers = dataset.manifests.numbers() if dataset.exists() else []
    if current is not None and current.version in numbers:
        return current.version
    return dataset.version().number if numbers else None


def _evaluate(
    plan: Plan, dataset: Store, outputs: Outputs, versions: tuple[int | None, int], current: Current | None, device: str
) -> tuple[drift.Drift, Current]:
    """Evaluates the detector in use on the new version, retrains it if the manifest says so, and measures what changed.

    Gives that, and the detector in use from now on.
    """
    from flows import detector_tasks
    from ntf_model.judging.evaluate import Evaluation

    policy = plan.manifest.detector
    splits, delivered = splits_of_store(dataset, deliveries=policy.deliveries), delivered_tests(dataset)
    before = old = None
    if current is not None:
        of_version = current.run / f"on-version-{current.version}" / runs.EVALUATION_FILE
        earlier = of_version if of_version.is_file() else current.run / runs.EVALUATION_FILE
        before = Evaluation.load(earlier) if earlier.is_file() else None
        old = detector_tasks.evaluate_ntf(current.run, splits, current.run / f"on-version-{versions[1]}", delivered).evaluation
    finished = datetime.now(UTC)
    measured = drift.measure_drift(dataset, plan, versions, before, old, None, finished)
    if current is not None and (policy.retrain == "never" or (policy.retrain == "below-gate" and not measured.fallen)):
        return measured, Current(current.run, versions[1])
    run = outputs.folder / f"ntf-{dataset.version().digest[:12]}"
    outputs.take(run.name)
    detector_tasks.train_as_stated(plan.manifest, splits, run, device)
    outputs.keep(run.name)  # at once: if the refresh fails later, the next one need not train again
    new = detector_tasks.evaluate_ntf(run, splits, delivered=delivered).evaluation
    known = finished if old else datetime.now(UTC)
    return drift.measure_drift(dataset, plan, versions, before, old, new, known), Current(run, versions[1])

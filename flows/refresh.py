"""`refresh` brings a dataset and its detector up to date with the checkpoints that are there now: the flow.

It is started by the event of a new checkpoint and by a schedule, and does nothing where there is nothing to do. `flows/refreshing.py` does
the work. It is imported by a run that has begun: PyTorch and Lance take longer to load than all else that a run needs to begin.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from flows.lasting import require_lasting
from flows.logs import run_logger
from flows.orphans import end_with_worker

REFRESH = (
    "Registers new checkpoints, rebuilds what they change, evaluates the detector, retrains it if the manifest says so, reports the drift."
)


@flow(name="refresh", description=REFRESH, log_prints=False, validate_parameters=True)
def refresh(
    manifest: str = "demo", store: str = "store", output: str = "runs", device: str = "auto", checkpoint: str | None = None
) -> dict[str, Any] | State[dict[str, Any]]:
    """Brings a dataset and its detector up to date with the checkpoints that are there now.

    The deliveries that the dataset has, and those that the manifest's detector learns from, are brought up to date too.
    While another build holds the dataset, it ends `Completed` and says so. Gives the version, the shards made, whether the detector was
    retrained, and the subsets that fell below the gate.

    Args:
        manifest: The manifest: the name of one that ships (demo, paper), or a file in the worker's folder of manifests.
        store: The folder or the prefix on an object storage that holds the datasets.
        output: The folder, or the prefix on an object storage, for detectors, results and reports.
        device: What to run on: auto, cpu, cuda:0, or several GPUs, such as 0,1,2,3.
        checkpoint: The checkpoint whose event started the run. It is only logged: the plan finds out what changed.
    """
    end_with_worker()
    require_lasting(store=store, output=output)
    logger = run_logger()
    if checkpoint:
        logger.info("started for the checkpoint %s", checkpoint)
    from flows.refreshing import bring_up_to_date

    return bring_up_to_date(manifest, store, output, device, logger)

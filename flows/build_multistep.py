"""`build-multistep`, the main job, and its parts: `build-dataset`, `train-ntf` and `evaluate-ntf`, as flows.

`flows/multistep.py` does the work. It is imported by a run that has begun: PyTorch and Lance take longer to load than all else that a run
needs to begin.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.lasting import require_lasting
from flows.orphans import end_with_worker

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
    from flows.multistep import build_and_judge
    from flows.remote import Source

    return build_and_judge(Source(manifest, limit, store, device, batch), deliveries, output, shares, examine)


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
    from flows.multistep import build_alone
    from flows.remote import Source

    return build_alone(Source(manifest, limit, store, device, batch), deliveries, shares)


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
    from flows.multistep import train_newest

    train_newest(manifest, store, run, device)
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
    from flows.multistep import evaluate_newest

    evaluate_newest(dataset, store, run)
    return run

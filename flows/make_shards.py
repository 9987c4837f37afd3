"""`make-shards` makes a part of a build over a work pool: the flow. `flows/building.py` does the work, and is imported by a run that has
begun."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import State

from flows.lasting import require_lasting
from flows.orphans import end_with_worker

MAKE = "Claims and makes chains of a build until none is left. Builds start this deployment themselves, with `shares`."


@flow(name="make-shards", description=MAKE, log_prints=False, validate_parameters=True)
def make_shards(
    manifest: str = "demo",
    store: str = "store",
    device: str = "auto",
    limit: int | None = None,
    workers: int = 1,
    batch: int | None = None,
    deliveries: list[str] | None = None,
) -> State[dict[str, Any]]:
    """Makes missing shards until none is left, as one of `workers` that share them. The build that started it commits them.

    Args:
        manifest: The manifest: the name of one that ships (demo, paper), or a file in the worker's folder of manifests.
        store: The folder or the prefix on an object storage that holds the datasets.
        device: What to run on: auto, cpu, cuda:0, or several GPUs, such as 0,1,2,3.
        limit: At most this many fakes of each part of a subset, to try a manifest out.
        workers: How many runs share the work; the build that starts them sets it.
        batch: How many images are made at once. If not given, a GPU makes as many as fit and pay, and a CPU a few.
        deliveries: Deliveries of the manifest to make too, by name.
    """
    end_with_worker()
    require_lasting(store=store)
    from flows.building import make_share
    from flows.remote import Source

    return make_share(Source(manifest, limit, store, device, batch, tuple(deliveries or ())), workers)

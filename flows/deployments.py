"""The deployments: what `ntf serve` offers on one machine. `prefect.yaml` has the same for work pools."""

from __future__ import annotations

from typing import Any

from prefect.deployments.runner import EntrypointType
from prefect.events import DeploymentEventTrigger

from flows.build_multistep import build_dataset, build_multistep, evaluate_ntf, train_ntf
from flows.events import REGISTERED
from flows.make_shards import make_shards
from flows.refresh import refresh


def deployments(manifest: str, store: str, output: str, device: str, cron: str | None) -> list[Any]:
    """Runnable deployments of all flows with these parameters. `refresh` starts on a registered checkpoint and, if given, by `cron`."""
    common = {"manifest": manifest, "store": store, "device": device}
    trigger = DeploymentEventTrigger(
        expect={REGISTERED},
        match={"prefect.resource.id": "generator.*"},
        parameters={"checkpoint": "{{ event.payload.checkpoint }}"},
    )
    described: list[tuple[Any, str, dict[str, Any]]] = [
        (build_multistep, "build-multistep", {"parameters": {**common, "output": output}}),
        (build_dataset, "build-dataset", {"parameters": common}),
        (make_shards, "make-shards", {"parameters": common}),
        (train_ntf, "train-ntf", {"parameters": common}),
        (evaluate_ntf, "evaluate-ntf", {"parameters": {"store": store}}),
        (
            refresh,
            "refresh",
            {"parameters": {**common, "output": output}, "triggers": [trigger], "cron": cron, "concurrency_limit": 1},
        ),
    ]
    # By the modules' names, as prefect.yaml has them. With files, a server that knows a deployment by both would find neither
    return [flow.to_deployment(name, entrypoint_type=EntrypointType.MODULE_PATH, **facts) for flow, name, facts in described]

"""What this project tells Prefect: that a checkpoint was registered. An event is a hint; the scheduled reconcile is the guarantee."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.catalogue.registering import Added

REGISTERED = "generator.checkpoint.registered"


def announce(added: Added) -> bool:
    """Emits `generator.checkpoint.registered` to the server that PREFECT_API_URL names. False, and nothing happens, where none is named."""
    if not os.environ.get("PREFECT_API_URL"):
        return False
    from prefect.events import emit_event

    event = emit_event(
        event=REGISTERED,
        resource={"prefect.resource.id": f"generator.{added.generator}", "prefect.resource.name": added.generator},
        payload={"checkpoint": added.name, "sha256": added.sha256},
    )
    return event is not None

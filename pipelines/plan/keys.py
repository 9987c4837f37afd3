"""What decides a shard's pixels, and the key made of it."""

from __future__ import annotations

from typing import Any

from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.schema import Faces

SWAPS_VERSION = 1  # raise it when a change of code changes what comes out: swaps made before become stale


def face_settings(settings: Faces, catalogue: Catalogue) -> dict[str, Any]:
    """All that decides what a swapper is given and what becomes of its output: a part of the key of every shard of swaps.

    Whether a swapper needs aligning at all is known only once it is loaded, so swaps of "aligned" pictures have it in their keys too.
    """
    return {
        "version": SWAPS_VERSION,
        **settings.model_dump(mode="json"),
        "networks": {key: catalogue.identity(name) for key, name in settings.networks},
    }

"""One version, as it is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from foreign.secrets import shown
from generators.errors import InputError
from pipelines.store.damage import StoreDamaged
from pipelines.store.upgrade import UPGRADED

SECONDS = "seconds"  # how long devices were held for the shards that came with a version
OWN_PROPERTIES = ("digest", "schema", UPGRADED, SECONDS)  # of a version alone: not to be taken over by one that is made from it


@dataclass(frozen=True)
class Version:
    """One immutable state of a dataset."""

    number: int
    created: datetime
    tags: tuple[str, ...]
    rows: int
    properties: dict[str, str]

    @property
    def digest(self) -> str:
        return self.properties.get("digest", "")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest that the version was built from, as data, its addresses without their secrets, which older builds kept. InputError
        if it was not built from one, or that cannot be read."""
        if "manifest" not in self.properties:
            raise InputError(f"version {self.number} has no manifest", "Only a version that `ntf build` made has one: build again")
        try:
            return _without_secrets(dict(json.loads(self.properties["manifest"])))
        except (ValueError, TypeError):
            raise StoreDamaged(f"the properties of version {self.number} are damaged", "Go back to another: `ntf store checkout`") from None

    @property
    def inheritable(self) -> dict[str, str]:
        """The properties that a version made from this one takes over: the manifest, the device, ..."""
        return {name: value for name, value in self.properties.items() if name not in OWN_PROPERTIES}


def _without_secrets(manifest: dict[str, Any]) -> dict[str, Any]:
    checkpoints = manifest.get("checkpoints")
    for entry in checkpoints.values() if isinstance(checkpoints, dict) else ():
        if isinstance(entry, dict):
            entry.update({key: shown(entry[key]) for key in ("url", "page") if isinstance(entry.get(key), str)})
            if isinstance(entry.get("mirrors"), list):
                entry["mirrors"] = [shown(str(address)) for address in entry["mirrors"]]
    return manifest

"""Paths that outlast a run. A worker of a process pool gives each run a folder of its own, and removes it at the run's end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from generators.errors import InputError


def require_lasting(**places: str) -> None:
    """InputError for a relative path, given under its parameter's name, in a run whose folder is removed at its end."""
    if "PREFECT__FLOW_RUN_ID" not in os.environ or not _is_removed(Path.cwd()):
        return
    from pipelines.place import Place  # Lance comes with it

    for name, place in places.items():
        if Place.of(place).is_local and not Path(place).is_absolute():
            raise InputError(
                f"{name}={place} is relative, and the folder of this run is removed at its end", f"Give {name} as an absolute path or a URI"
            )


def _is_removed(folder: Path) -> bool:
    """Whether a folder, or one above it, is a temporary one of Prefect's workers, by its name."""
    above = Path(tempfile.gettempdir()).resolve()
    return any(part.parent == above and part.name.startswith("tmp") and part.name.endswith("prefect") for part in (folder, *folder.parents))

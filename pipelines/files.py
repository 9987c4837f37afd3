"""What is kept between runs on one machine: a folder of small JSON files and locks, `$NTF_CACHE` or `~/.cache/natural-trace-foundry`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from generators.files import write_json


def cache_folder() -> Path:
    return Path(os.environ.get("NTF_CACHE", Path.home() / ".cache" / "natural-trace-foundry"))


def write_cache(file: Path, data: Any) -> None:
    """Writes JSON. A cache that cannot be written costs time and nothing else, so that is no error."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, data)

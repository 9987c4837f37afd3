"""What is kept between runs on one machine: a folder of small JSON files and locks, `$NTF_CACHE` or `~/.cache/natural-trace-foundry`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    return Path(os.environ.get("NTF_CACHE", Path.home() / ".cache" / "natural-trace-foundry"))


def write_cache(file: Path, data: Any) -> None:
    """Writes JSON, whole or not at all. A cache that cannot be written costs time, not correctness: that is no error."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(data))
        partial.replace(file)
    except OSError:
        pass

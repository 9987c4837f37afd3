"""What of a folder or an archive is no picture of it: beside `foreign.folders`, which lists a folder, two questions about single names."""

from __future__ import annotations

import stat
from pathlib import Path

from foreign.folders import FOREIGN_FOLDERS


def is_plain_file(file: Path) -> bool:
    """Whether it is a plain file or a link to one: reading a pipe, socket or device may never end."""
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return False


def is_foreign(name: str) -> bool:
    """Whether a path in an archive is hidden, or is what another program added."""
    return any(part.startswith(".") or part.casefold() in FOREIGN_FOLDERS for part in Path(name).parts if part not in (".", ".."))

"""The detector in use of a dataset: the one that the next refresh compares with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foreign.json_files import read_json
from generators.errors import InputError
from generators.files import write_json

CURRENT_FILE = "current.json"


@dataclass(frozen=True)
class Current:
    """The detector in use: its run's folder, and the version of the dataset that it was last evaluated on."""

    run: Path
    version: int


def read_current(folder: Path) -> Current | None:
    """The detector in use, or None if none was trained yet. InputError if the note of it is damaged."""
    file = folder / CURRENT_FILE
    if not file.is_file():
        return None
    try:
        data = read_json(file)
        return Current(folder / data["run"], int(data["version"]))
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged", "Remove it: the next refresh trains a detector anew") from None


def write_current(folder: Path, current: Current) -> None:
    """Notes the detector in use."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CURRENT_FILE, {"run": current.run.name, "version": current.version})

"""The picture files under a folder, and a count of all that is left out there, by kind."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ntf_model.data.images import IMAGE_SUFFIXES

# Folders that programs put beside pictures: thumbnails of a Synology server and of Windows, what macOS adds to an archive
FOREIGN_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "#recycle", "lost+found", "@tmp", "#snapshot"})
FOREIGN_FILES = frozenset({"thumbs.db", "desktop.ini"})


class Listing(NamedTuple):
    """`files` in order of their paths below the folder. `left_out` counts the rest by kind, such as "hidden" or ".txt"."""

    files: list[Path]
    left_out: dict[str, int]


def list_pictures(folder: Path) -> Listing:
    """The pictures under `folder` at any depth.

    Left out and counted: what is hidden or lies in a hidden folder, `@eaDir` and its like, links to folders, links to nothing, pipes and
    devices (which are never opened), and files without the suffix of a picture. Links to files are read.
    """
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for at, folders, names in os.walk(folder):
        inside = Path(at).relative_to(folder).parts
        kind = _kind_of_folder(inside)
        for name in folders:
            if (Path(at) / name).is_symlink():
                left_out["link to a folder"] += 1
        for name in names:
            file = Path(at) / name
            reason = kind or _kind_of_file(file)
            if reason:
                left_out[reason] += 1
            else:
                files.append(file)
    return Listing(sorted(files, key=lambda file: file.relative_to(folder).parts), dict(sorted(left_out.items())))


def is_plain_file(file: Path) -> bool:
    """Whether it is a file whose reading ends: no folder, pipe, socket or device."""
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return False


def is_foreign(name: str) -> bool:
    """Whether a path in an archive is hidden, or is what another program added."""
    return any(part.startswith(".") or part.casefold() in FOREIGN_FOLDERS for part in Path(name).parts if part not in (".", ".."))


def said(left_out: Mapping[str, int]) -> str:
    """`left_out` in words: "5 files are left out (3 hidden, 2 .txt)"; nothing if nothing is."""
    total = sum(left_out.values())
    if not total:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
    return f"{total} {'file is' if total == 1 else 'files are'} left out ({kinds})"


def _kind_of_folder(parts: tuple[str, ...]) -> str:
    for part in parts:
        if part.casefold() in FOREIGN_FOLDERS:
            return f"in {part}"
        if part.startswith("."):
            return "in a hidden folder"
    return ""


def _kind_of_file(file: Path) -> str:
    if file.name.startswith("."):
        return "hidden"
    if file.name.casefold() in FOREIGN_FILES:
        return file.name
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        return file.suffix.lower() or "without a suffix"
    if is_plain_file(file):
        return ""
    return "link to nothing" if file.is_symlink() else "pipe or device"

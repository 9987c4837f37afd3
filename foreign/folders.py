"""The picture files under a folder, and a count of all that is left out there, by kind."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from foreign.pictures import SUFFIXES

# What programs put beside pictures: thumbnails of Synology and Windows, what macOS adds to an archive, bins and snapshots of file servers.
FOREIGN_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "#recycle", "lost+found", "@tmp", "#snapshot"})
FOREIGN_FILES = frozenset({"thumbs.db", "desktop.ini"})
LINK_TO_FOLDER, NOT_PLAIN = "link to a folder", "pipe or device"


class Listing(NamedTuple):
    """`files` in order of their paths below the folder. `left_out` counts the rest by kind, such as "hidden" or ".txt"."""

    files: list[Path]
    left_out: dict[str, int]


def list_pictures(folder: Path) -> Listing:
    """The pictures under `folder` at any depth.

    Left out and counted: what is hidden or lies in a hidden folder, `@eaDir` and its like, links to folders, links to nothing, pipes and
    devices (which are never opened), and files without the suffix of a picture. Links to files are listed.
    """
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for at, folders, names in os.walk(folder):
        place = Path(at)
        inside = place.relative_to(folder).as_posix()
        left_out.update(LINK_TO_FOLDER for name in folders if (place / name).is_symlink())
        for name in names:
            kind = why_left_out(name if inside == "." else f"{inside}/{name}") or _why_not_plain(place / name)
            if kind:
                left_out[kind] += 1
            else:
                files.append(place / name)
    return Listing(sorted(files, key=lambda file: file.relative_to(folder).parts), dict(sorted(left_out.items())))


def why_left_out(name: str) -> str:
    """Why a path within a folder or an archive is no picture, by its names alone: "hidden", "in @eaDir", ".txt". Empty if it may be one."""
    path = PurePosixPath(name)
    for part in path.parts[:-1]:
        if part.casefold() in FOREIGN_FOLDERS:
            return f"in {part}"
        if part.startswith(".") and part not in (".", ".."):
            return "in a hidden folder"
    if path.name.startswith("."):
        return "hidden"
    if path.name.casefold() in FOREIGN_FILES:
        return path.name
    if path.suffix.lower() not in SUFFIXES:
        return path.suffix.lower() or "without a suffix"
    return ""


def said(left_out: Mapping[str, int]) -> str:
    """`left_out` in words: "5 files are left out (3 hidden, 2 .txt)"; nothing if nothing is."""
    total = sum(left_out.values())
    if not total:
        return ""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
    return f"{total:,} {'file is' if total == 1 else 'files are'} left out ({kinds})"


def _why_not_plain(file: Path) -> str:
    try:
        return "" if stat.S_ISREG(file.stat().st_mode) else NOT_PLAIN
    except OSError:
        return "link to nothing"

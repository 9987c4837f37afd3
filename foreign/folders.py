"""The picture files under a folder, and a count of all that is left out there, by kind."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
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
    files: list[tuple[str, ...]] = []  # the parts of their paths below the folder
    left_out: Counter[str] = Counter()
    for at, folders, names in os.walk(folder):  # with texts, because a Path for every question takes as long as reading the picture
        inside = Path(at).relative_to(folder).parts
        left_out.update(LINK_TO_FOLDER for name in folders if os.path.islink(os.path.join(at, name)))
        for name in names:
            kind = why_left_out("/".join((*inside, name))) or _why_not_plain(os.path.join(at, name))
            if kind:
                left_out[kind] += 1
            else:
                files.append((*inside, name))
    return Listing([folder.joinpath(*parts) for parts in sorted(files)], dict(sorted(left_out.items())))


def why_left_out(name: str) -> str:
    """Why a path within a folder or an archive is no picture, by its names alone: "hidden", "in @eaDir", ".txt". Empty if it may be one."""
    *folders, file = [part for part in name.split("/") if part not in ("", ".")] or [""]
    for part in folders:
        if part.casefold() in FOREIGN_FOLDERS:
            return f"in {part}"
        if part.startswith(".") and part != "..":
            return "in a hidden folder"
    if file.startswith("."):
        return "hidden"
    if file.casefold() in FOREIGN_FILES:
        return file
    _, dot, ending = file.rpartition(".")
    suffix = f".{ending}".lower() if dot and ending else ""
    return "" if suffix in SUFFIXES else suffix or "without a suffix"


def said(left_out: Mapping[str, int]) -> str:
    """`left_out` in words: "5 files are left out (3 hidden, 2 .txt)"; nothing if nothing is."""
    total = sum(left_out.values())
    if not total:
        return ""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
    return f"{total:,} {'file is' if total == 1 else 'files are'} left out ({kinds})"


def _why_not_plain(file: str) -> str:
    try:
        return "" if stat.S_ISREG(os.stat(file).st_mode) else NOT_PLAIN
    except OSError:
        return "link to nothing"

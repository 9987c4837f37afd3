"""Files and folders that a person fetched, recognised by sha256, by name or by what is in them, and put where builds look for them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from generators.checkpoints import read_weights, sha256_of
from generators.errors import InputError
from generators.files import whole_file
from pipelines.catalogue.archives import DAMAGED, extract_member, member_of
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.saved_folders import Taken, copy_hashed, find_folder, folders_below, packed_folders, take_folder
from pipelines.catalogue.transfer import require_space

MAX_FILES = 10_000
MAX_DEPTH = 4
SMALLEST = 1_000  # bytes; what is smaller is no checkpoint
BY_SHA256, BY_NAME, BY_CONTENTS, BY_NAME_AND_CONTENTS = "its sha256", "its name", "its contents", "its name and contents"
_COPY = re.compile(r"(?: ?\(\d+\)|-\d| - Copy)(?=\.[^.]*$)")  # what browsers and file managers add to a name that is taken
_UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp"}


@dataclass(frozen=True)
class Recognised:
    """A file or folder below a person's folder that is the checkpoint `name`, by `evidence`; `member` is the end of its path in a zip
    archive."""

    name: str
    file: Path
    evidence: str
    member: str | None = None


def recognise(folder: Path, names: Iterable[str], catalogue: Catalogue) -> tuple[list[Recognised], list[str]]:
    """Which files below `folder` are the checkpoints `names`, and in one line each what looks like one and is not.

    A file of the right name whose sha256 or tensors are others is no match. Where neither is known, the name is trusted. A repository of
    the Hub is a folder of its name that holds weights.
    """
    try:
        download, folders = _Download(folder, catalogue), folders_below(folder)
    except OSError as error:
        raise InputError(f"cannot look into {error.filename}: {error.strerror}", "Give a folder of your own that can be read") from None
    matches: list[Recognised] = []
    doubts: list[str] = []
    for name in names:
        entry = catalogue.entries[name]
        if entry.hub and not entry.url:
            place, own_doubts = find_folder(entry.hub, entry.variant, folders)
            match = Recognised(name, place, BY_NAME) if place else None
            own_doubts += [] if place else packed_folders(entry.hub, download.files)
        else:
            match, own_doubts = download.find(name)
        doubts += own_doubts
        if match:
            matches.append(match)
    taken: dict[Path, list[Recognised]] = {}
    for match in matches:
        if match.evidence == BY_CONTENTS:
            taken.setdefault(match.file, []).append(match)
    for file, several in taken.items():
        if len(several) > 1:
            titles = " or ".join(match.name for match in several)
            doubts.append(f"{file} may be {titles}: give it the name of the one that it is")
            matches = [match for match in matches if match not in several]
    return matches, doubts


class _Download:
    """The files of a person's folder. Each is hashed and looked into once at most."""

    def __init__(self, folder: Path, catalogue: Catalogue):
        self.files, self.catalogue = _files(folder), catalogue
        self.sums: dict[Path, str] = {}
        self.tensors: dict[Path, frozenset[str]] = {}

    def find(self, name: str) -> tuple[Recognised | None, list[str]]:
        """The file that is the checkpoint `name`, those of its name first; and why files of its name are not."""
        titles = _titles(name, self.catalogue)
        named = sorted((file for file in self.files if not titles.isdisjoint(_names_of(file.name))), key=lambda file: len(file.name))
        doubts = []
        for file in [*named, *(file for file in self.files if file not in named)]:
            evidence, doubt = self._judge(name, file, file in named)
            if evidence:
                return Recognised(name, file, evidence), []
            if doubt and file in named:
                doubts.append(f"{file} has the name of {name}, {doubt}")
        return _in_archives(name, self.files, self.catalogue), doubts

    def _judge(self, name: str, file: Path, is_named: bool) -> tuple[str, str]:
        """What shows that `file` is the checkpoint, and if nothing does, why it is not."""
        entry, stated = self.catalogue.entries[name], self.catalogue.stated_sha256(name)
        if entry.size and file.stat().st_size != entry.size:
            return "", f"and {file.stat().st_size:,} bytes instead of {entry.size:,}"
        if stated:
            return self._by_sha256(file, stated)
        if entry.marks:
            if file not in self.tensors:
                self.tensors[file] = _tensor_names(file)
            missing = _missing_mark(self.tensors[file], entry.marks)
            if missing:
                return "", f"and not its contents (no tensor {missing})"
            return (BY_NAME_AND_CONTENTS if is_named else BY_CONTENTS), ""
        return (BY_NAME if is_named else ""), ""

    def _by_sha256(self, file: Path, stated: str) -> tuple[str, str]:
        if file not in self.sums:
            self.sums[file] = sha256_of(file)
        if self.sums[file] == stated:
            return BY_SHA256, ""
        return "", f"and another sha256 ({self.sums[file][:12]}, not {stated[:12]})"


def take(match: Recognised, catalogue: Catalogue) -> Taken:
    """Copies what was recognised to its place, whole or not at all. InputError if that fails. Of one file `files` is empty."""
    target = catalogue.path(match.name)
    if match.member is not None:
        sha256, stated = extract_member(match.file, match.member, target), catalogue.stated_sha256(match.name)
        if stated and sha256 != stated:
            target.unlink()
            raise InputError(
                f"{match.file}: {match.member} in it has another sha256 than the one that is wanted ({sha256[:12]}, not {stated[:12]})",
                "Get the archive of the other release",
            )
        return Taken(sha256, {}, None)
    if match.file.is_dir():
        return take_folder(match.file, target, catalogue.entries[match.name].variant, catalogue.stated_sha256(match.name))
    require_space(target.parent, match.file.stat().st_size)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as partial:
            return Taken(copy_hashed(match.file, partial), {}, None)
    except OSError as error:
        raise InputError.unwritable(f"copy {match.file} to {target}", error) from None


def _files(folder: Path) -> list[Path]:
    """The files below `folder` that may be checkpoints. InputError if there is no such folder, or it holds far too many."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "Give the folder that your browser saves to")
    files: list[Path] = []
    level = [folder]
    for _ in range(MAX_DEPTH):
        inside = [
            entry for place in level for entry in sorted(place.iterdir()) if not entry.name.startswith(".") and not entry.is_symlink()
        ]
        files += [file for file in inside if file.is_file() and file.suffix not in _UNFINISHED and file.stat().st_size >= SMALLEST]
        level = [entry for entry in inside if entry.is_dir()]
        if len(files) > MAX_FILES:
            raise InputError(f"{folder} holds more than {MAX_FILES:,} files", "Put the files that you fetched into a folder of their own")
    return files


def _titles(name: str, catalogue: Catalogue) -> set[str]:
    """The names, in lower case, that a browser may have saved the checkpoint under."""
    entry = catalogue.entries[name]
    titles = {str(entry.file).rpartition("/")[2]}
    if entry.url and not entry.member:
        titles.add(entry.url.partition("?")[0].rpartition("/")[2])
    return {title.lower() for title in titles}


def _names_of(name: str) -> set[str]:
    """What a file was called before it was saved: as it is called now, or without the number of a copy."""
    return {name.lower(), _COPY.sub("", name).lower()}


def _in_archives(name: str, files: list[Path], catalogue: Catalogue) -> Recognised | None:
    """The checkpoint as a file in one of the zip archives, or in an archive in one, as SharePoint, koofr and Drive hand out folders."""
    entry = catalogue.entries[name]
    leaf = entry.member or str(entry.file).rpartition("/")[2]
    for file in files:
        if file.suffix.lower() == ".zip" and zipfile.is_zipfile(file) and _holds(file, leaf):
            return Recognised(name, file, f"its name, {leaf}, in the archive", leaf)
    return None


def _holds(archive: Path, leaf: str) -> bool:
    try:
        with member_of(archive, leaf) as place:
            return place is not None
    except DAMAGED:
        return False


def _tensor_names(file: Path) -> frozenset[str]:
    try:
        return frozenset(read_weights(file).tensors)
    except InputError:
        return frozenset()


def _missing_mark(names: frozenset[str], marks: tuple[str, ...]) -> str | None:
    """The first of `marks` that no tensor has; one that ends in a dot is the beginning of a name."""
    return next(
        (mark for mark in marks if mark not in names and not any(mark[-1] == "." and name.startswith(mark) for name in names)), None
    )

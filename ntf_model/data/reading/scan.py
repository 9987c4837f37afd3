"""Every picture under a folder with its class, subset and split, from the names of the folders that it lies in."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foreign.folders import list_pictures, said
from ntf_model.data.reading.checks import check_contents
from ntf_model.data.reading.grouping import Entry
from ntf_model.data.reading.labels import FAKE, LabelRule, accepted_names
from ntf_model.data.reading.split_names import SPLITS, split_level, split_of
from ntf_model.errors import InputError, counted


@dataclass(frozen=True)
class Folder:
    """What lies in a folder: a row for each picture, and what is to be said about the rest."""

    path: Path
    entries: list[Entry]
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> list[str]:
        """The splits that its folders name, in order; none if they name none."""
        named = {entry.split for entry in self.entries}
        return [split for split in SPLITS if split in named]

    def of_split(self, split: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.split == split]


MASKS = "mask"  # an export's folder that shows where each fake was reworked


def real_source_of(subset: str) -> str:
    """The name that folders give to the real source of a subset."""
    return "real" if subset == "fake" else f"{subset}/real"


def scan(path: Path, rule: LabelRule | None = None) -> Folder:
    """Every picture under `path` with its label, subset, id and split, in order of the ids. InputError for what is not certain."""
    rule = rule or LabelRule()
    if not path.is_dir():
        raise InputError(f"there is no folder {path}", "Give one that holds `real/` and `fake/`")
    listing = list_pictures(path)
    fix = f"Class folders are, in any case, {accepted_names()}. Rename yours, or name them: --labels real=NAME,fake=NAME"
    if rule.given:
        fix = f"--labels names {', '.join(rule.given)}"
    masks = [file for file in listing.files if MASKS in file.relative_to(path).parts[:-1]]
    files = [file for file in listing.files if MASKS not in file.relative_to(path).parts[:-1]]
    parts = [file.relative_to(path).parts[:-1] for file in files]
    places = [_class_of(folders, rule, path) for folders in parts]
    if not any(places):
        tops = sorted({folders[0] for folders in parts if folders})
        beside = f"; it has the folders {', '.join(tops[:6])}" if tops else ""
        raise InputError(f"{path} has no pictures in folders of a class{beside}", fix)
    lost = [file for file, place in zip(files, places, strict=True) if place is None]
    if lost:
        where = f"{lost[0].relative_to(path)} and {counted(len(lost) - 1, 'other')}" if len(lost) > 1 else lost[0].relative_to(path)
        raise InputError(f"{path}: {where} lie{'s' if len(lost) == 1 else ''} in no folder of a class", f"{fix}, or move them out")
    known = [place for place in places if place is not None]
    level = split_level(
        [
            [(depth, name, depth < at) for depth, name in enumerate(folders) if depth != at]
            for folders, (at, _) in zip(parts, known, strict=True)
        ],
        str(path),
    )
    entries = []
    for file, folders, (at, label) in zip(files, parts, known, strict=True):
        above = "/".join(name for depth, name in enumerate(folders[:at]) if depth != level)
        below = tuple(name for depth, name in enumerate(folders) if depth > at and depth != level)
        subset = above or "fake"
        name = unicodedata.normalize("NFC", file.relative_to(path).as_posix())
        split = None if level is None else split_of(folders[level])
        entries.append(Entry(file, label, subset if label == FAKE else real_source_of(subset), name, split, below))
    twice = [name for name, count in Counter(entry.id for entry in entries).items() if count > 1]
    if twice:
        raise InputError(f"{path} has two files that are both called {twice[0]}", "Rename one of them")
    check_contents([(entry.label, sha, entry.id) for entry, sha in zip(entries, sha256s(entries).values(), strict=True)], str(path))
    left_out = said(listing.left_out)
    notes: tuple[str, ...] = (f"{path}: {left_out}",) if left_out else ()
    if masks:
        notes += (f"{path}: {counted(len(masks), 'mask')} in folders `{MASKS}`, which are no pictures to train on",)
    return Folder(path, sorted(entries, key=lambda entry: entry.id), notes)


def _class_of(folders: Sequence[str], rule: LabelRule, path: Path) -> tuple[int, int] | None:
    """The depth and the label of the folder that names a picture's class. InputError if its folders name both classes."""
    named = [(depth, *rule.of_folder(name)) for depth, name in enumerate(folders)]
    classes = [(depth, label) for depth, label, is_plain in named if label is not None and is_plain]
    classes = classes or [(depth, label) for depth, label, _ in named if label is not None]
    if len({label for _, label in classes}) > 1:
        raise InputError(
            f"{path / '/'.join(folders)} lies in folders of both classes", "Move it, so that each picture has one class folder above it"
        )
    return classes[0] if classes else None


_known: dict[tuple[str, int, int], str] = {}  # sha256 by file, size and time: a folder is looked at several times in one command


def sha256s(entries: Sequence[Entry]) -> dict[str, str]:
    """The sha256 of each file, by id."""
    sums = {}
    for entry in entries:
        facts = entry.file.stat()
        key = str(entry.file), facts.st_size, facts.st_mtime_ns
        if key not in _known:
            _known[key] = hashlib.sha256(entry.file.read_bytes()).hexdigest()
        sums[entry.id] = _known[key]
    return sums

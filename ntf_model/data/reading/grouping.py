"""Which pictures must stay in one split: frames of a video, pictures of a person, a fake and the real that it was made from."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from foreign.lists import plain, read_pairs
from ntf_model.errors import InputError

_FRAME = re.compile(r"^(.+?)[ _.-]+[(\[]?(?:frame|frm|f|img|image)?[ _.-]*\d+[)\]]?$", re.IGNORECASE)  # `id7_0012`, `clip 3 (12)`
_FRAME_FIRST = re.compile(r"^(?:frame|frm)[ _.-]*\d+[ _.-]+(.+)$", re.IGNORECASE)  # `frame0012_id7`
FEWEST = 3  # groups that can be divided into three splits
FEWEST_WORDS = 8  # beginnings of names without a digit: fewer are sources (`biggan_001`) and not people (`Aaron_Eckhart_0001`)
OPTION = "Say what holds together: --groups none, --groups folders, --groups names, or a file of lines `picture,group`"


class Entry(NamedTuple):
    """A picture in a folder: its file, label, subset and id (its path below the folder); its split, if folders name one; and the folders
    between the one that names its class and the file."""

    file: Path
    label: int
    subset: str
    id: str
    split: str | None = None
    below: tuple[str, ...] = ()


class Grouped(NamedTuple):
    """A group for each entry, and a sentence that says by what they were grouped, or nothing."""

    groups: list[str]
    note: str


def group_entries(entries: Sequence[Entry], path: Path, how: str = "auto") -> Grouped:
    """The group of each entry. `how`: "auto", "none" (only files of one name), "folders", "names", or a file of lines `picture,group`.

    "auto" takes the folders below a class folder for videos or people if there are at least three, and else the beginning of names such
    as `id7_0001` if there are enough of them. Pictures of all classes that have the same group stay together. Raises InputError where two
    folders or two beginnings leave it open.
    """
    if how not in ("auto", "none", "folders", "names"):
        return Grouped(_from_list(entries, Path(how)), f"pictures stay together as {how} says")
    groups = [entry.file.stem for entry in entries]
    by_class: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        by_class[entry.subset, entry.label].append(place)
    notes: dict[str, int] = {}
    identities = _Identities() if how == "auto" else None
    for (subset, _), places in by_class.items():
        ways = _ways([entries[place] for place in places], f"{path}, {subset}", how, identities)
        for place, (way, group) in zip(places, ways, strict=True):
            groups[place] = group
            if way:
                notes[way] = notes.get(way, 0) + 1
    said = " and ".join(f"{count} pictures by {way}" for way, count in notes.items())
    return Grouped(groups, f"kept together in one split: {said} ({len(set(groups))} groups)" if said else "")


def divide(entries: Sequence[Entry], groups: Sequence[str], fractions: tuple[float, float], seed: int) -> tuple[list, list, list]:
    """Training, validation and test entries; a group is never divided.

    Groups that occur in the same classes are divided among themselves, so that each class is cut in the same proportion, in the order of a
    hash of their names: the same files always fall the same way.
    """
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry, group in zip(entries, groups, strict=True):
        members[group].append(entry)
    strata: dict[tuple, list[str]] = defaultdict(list)
    for group, inside in members.items():
        strata[tuple(sorted({(entry.subset, entry.label) for entry in inside}))].append(group)
    parts: tuple[list, list, list] = ([], [], [])
    for names in strata.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\x1f{name}".encode()).digest())
        counts = [max(round(share * len(ordered)), 1) if share and len(ordered) > 2 else 0 for share in fractions]
        for rank, name in enumerate(ordered):
            which = 1 if rank < counts[0] else 2 if rank < sum(counts) else 0
            parts[which].extend(members[name])
    first, second, third = (sorted(part, key=lambda entry: entry.id) for part in parts)
    return first, second, third


def _ways(entries: Sequence[Entry], where: str, how: str, identities: _Identities | None) -> list[tuple[str, str]]:
    """For each picture of a class by what it is grouped ("" for its own name), and its group."""
    if identities and all(people := [identities.of(entry) for entry in entries]):
        return [("identity", person) for person in people]
    if how == "auto" and all(_is_numbered_through(entry) for entry in entries if entry.below):
        entries = [entry._replace(below=()) for entry in entries]
    folders = {entry.below for entry in entries if entry.below}
    by_folder = how == "folders" or (how == "auto" and len(folders) >= FEWEST)
    if how == "auto" and len(folders) == 2:
        names = " and ".join(sorted("/".join(folder) for folder in folders))
        raise InputError(f"{where}: are the folders {names} two videos or people, or only two folders?", OPTION)
    loose = [entry for entry in entries if not (by_folder and entry.below)]
    beginnings = _beginnings(loose, where, how)
    ways = []
    for entry in entries:
        if by_folder and entry.below:
            ways.append(("folder", "/".join(entry.below)))
        elif beginnings and (start := _beginning(entry)):
            ways.append(("the beginning of the name", start))
        else:
            ways.append(("", entry.file.stem))
    return ways


class _Identities:
    """The people of pictures that `ntf import` brought in: `real-identities.csv` beside `real/` has lines `file,identity`."""

    def __init__(self) -> None:
        self.lists: dict[Path, Mapping[str, str]] = {}

    def of(self, entry: Entry) -> str:
        """Whom a picture shows, or nothing where no list says it."""
        folder = entry.file.parents[len(entry.below)]
        file = folder.parent / f"{folder.name}-identities.csv"
        if file not in self.lists:
            self.lists[file] = read_pairs(file, "the identities") if file.is_file() else {}
        return self.lists[file].get(plain(entry.file.relative_to(folder).as_posix()), "")


def _is_numbered_through(entry: Entry) -> bool:
    """Whether its folder only holds the next thousand of numbered pictures (`0001/00001234.png`): no video and no person."""
    if len(entry.below) != 1 or not (entry.below[0].isdecimal() and entry.file.stem.isdecimal()):
        return False
    thousand, number = int(entry.file.stem) // 1000, int(entry.below[0])
    return len(entry.file.stem) > len(str(thousand)) and number in (thousand, 1000 * thousand)


def _beginnings(entries: Sequence[Entry], where: str, how: str) -> bool:
    """Whether the beginnings of these names are groups."""
    if how in ("none", "folders"):
        return False
    counts = Counter(start for entry in entries if (start := _beginning(entry)))
    if how == "names" or len(counts) >= FEWEST_WORDS:
        return bool(counts)
    numbered = [start for start in counts if any(letter.isdigit() for letter in start)]
    if len(numbered) == len(counts) == 2 and max(counts.values()) > 1:
        raise InputError(f"{where}: are names such as {numbered[0]}_1 and {numbered[1]}_1 frames of two videos?", OPTION)
    return len(numbered) >= FEWEST


def _beginning(entry: Entry) -> str:
    """What is beside the number of the frame: "id7" of `id7_0001.png` and of `frame0001_id7.png`."""
    match = _FRAME_FIRST.match(entry.file.stem) or _FRAME.match(entry.file.stem)
    return match[1] if match else ""


def _from_list(entries: Sequence[Entry], file: Path) -> list[str]:
    """The group of each entry from a list, which names pictures by their paths or, where that is certain, by their file names."""
    listed: Mapping[str, str] = read_pairs(file, "the groups", "group")
    by_name = Counter(plain(entry.file.name) for entry in entries)
    groups, used = [], set()
    for entry in entries:
        path, own = plain(entry.id), plain(entry.file.name)
        name = path if path in listed else own if by_name[own] == 1 else ""
        if name not in listed:
            raise InputError(f"{file} has no group for {entry.id}", "List every picture by its path below the folder: `picture,group`")
        groups.append(listed[name])
        used.add(name)
    strangers = sorted(set(listed) - used)
    if strangers:
        raise InputError(f"{file} names {strangers[0]!r}, which no picture is called", "Take it out, or write its path below the folder")
    return groups

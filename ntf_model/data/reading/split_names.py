"""The splits that names stand for: of folders, of tar files, of a dataset's parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ntf_model.data.reading.labels import plain
from ntf_model.errors import InputError

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
ACCEPTED = ", ".join("|".join(names) for names in SPLIT_NAMES.values())
_BY_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}
# Words in a name that somebody means a split by, although it is none of the names
_HINTS = {
    *_BY_NAME,
    "eval",
    "evaluation",
    "evaluate",
    "holdout",
    "heldout",
    "trainset",
    "testset",
    "valset",
    "devset",
    "trainval",
    "tst",
    "trn",
    "fold",
    "folds",
    "partition",
    "split",
}


def split_of(name: str) -> str | None:
    """The split of this name, in any case; None if it is none."""
    return _BY_NAME.get(plain(name))


def looks_like_a_split(name: str) -> bool:
    """Whether a name has a word for a split in it: such a folder is never taken for a subset."""
    return any(word in _HINTS for word in re.findall(r"[^\W\d_]+", plain(name)))


def split_level(folders: Sequence[Sequence[tuple[int, str, bool]]], where: str) -> int | None:
    """At which depth the splits of a tree lie; None if it has none.

    `folders` has for each picture the folders that it lies in: depth, name, and whether the folder is above the one that names the class.
    Raises InputError where some names at a depth are splits and others are not, where two depths are splits, and for a name that only
    looks like a split.
    """
    names: dict[int, set[str]] = {}
    counts: dict[int, int] = {}
    suspects: set[tuple[int, str]] = set()
    for parts in folders:
        for depth, name, above in parts:
            names.setdefault(depth, set()).add(name)
            counts[depth] = counts.get(depth, 0) + 1
            if split_of(name) or (above and looks_like_a_split(name)):
                suspects.add((depth, name))
    whole = [depth for depth, at in names.items() if counts[depth] == len(folders) and all(map(split_of, at))]
    if len(whole) > 1:
        raise InputError(f"{where} has splits at two depths: {_some(names[whole[0]])}, and {_some(names[whole[1]])}", "Keep one of them")
    if whole:
        return whole[0]
    if suspects:
        depth, name = min(suspects)
        others = sorted(other for other in names[depth] if not split_of(other))
        if not split_of(name) or not others:
            beside = "is no split that is known" if not split_of(name) else "is a split, and not all pictures lie in one"
            raise InputError(f"the folder {name!r} in {where} {beside}", f"Splits are {ACCEPTED}. Rename it, or move the rest")
        raise InputError(
            f"{where} has the split {name!r} beside {_some(others)}, which {'is none' if len(others) == 1 else 'are none'}",
            f"Splits are {ACCEPTED}. Rename or move what is none of them",
        )
    return None


def by_split(names: Iterable[str], where: str) -> dict[str, str]:
    """The name of each split among the names of a dataset's parts. InputError for a name that is no split, and for two of one split."""
    parts: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split is None:
            raise InputError(f"the split {name!r} of {where} is not known", f"Splits are {ACCEPTED}. Rename it or take it out")
        if split in parts:
            raise InputError(f"{where} has two splits for {split}: {parts[split]!r} and {name!r}", "Keep one of them")
        parts[split] = name
    return parts


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(repr(name) for name in listed[:3]) + (" and others" if len(listed) > 3 else "")

"""What a detector is trained and tested on: pictures with a label and a subset, in three splits.

A subset is one way of making fakes ("SimSwap_LDM"); a real picture's subset is the name of its real source ("celebahq"). A subset is always
evaluated against the reals of its own source, because a real picture of other content says nothing about the generator.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ntf_model.data.images import read_image
from ntf_model.data.reading.checks import shared_pictures
from ntf_model.data.reading.grouping import Entry, divide, group_entries
from ntf_model.data.reading.labels import CLASSES, FAKE, REAL, LabelRule
from ntf_model.data.reading.scan import Folder, real_source_of, scan, sha256s
from ntf_model.data.reading.split_names import SPLITS
from ntf_model.errors import InputError, counted

FRACTIONS = (0.15, 0.15)  # of the pictures for validation and test, where folders have no splits


class Item(NamedTuple):
    """One picture: `image` `uint8` RGB `[H, W, 3]` of any size, `label` 0 real or 1 fake, `subset`, and an `id` that no other has."""

    image: np.ndarray
    label: int
    subset: str
    id: str


class ItemDataset(Protocol):
    """A torch map-style dataset of `Item`."""

    def __getitem__(self, index: int) -> Item: ...

    def __len__(self) -> int: ...


def items_of(dataset: ItemDataset, indices: Sequence[int]) -> list[Item]:
    """Several pictures, in one read where the dataset can do that (`__getitems__`, which torch's DataLoader calls too)."""
    together = getattr(dataset, "__getitems__", None)
    return together(indices) if together else [dataset[index] for index in indices]


@dataclass(frozen=True)
class DetectionData:
    """One split.

    `labels` (int `[N]`) and `subsets` (str `[N]`) describe `dataset` row by row, so that sampling needs no decoding. `real_of` names the
    real source of each subset of fakes, or the sources if it has several, `families` its family ("GAN", "DM", "multi-step", or "other"
    where nobody has said).
    `digest` is a hex sha256 that changes with any picture, label, subset or order. `ids` are those of the pictures, where they are known
    without reading them. `originals` has for each picture the id of the real one that it was made from, "" where nobody knows.
    `origin` says where the data are from: a folder, or the name, version and digest of a dataset. `notes` are sentences for the user: what
    was left out, and how pictures were divided. `sha256s` are those of the pictures' encoded bytes (of their pixels where the source has no
    bytes), and `deliveries` the chain of what happened to each on its way, where these are known.
    """

    dataset: ItemDataset
    labels: np.ndarray
    subsets: np.ndarray
    real_of: Mapping[str, str | tuple[str, ...]]
    families: dict[str, str]
    digest: str
    ids: np.ndarray | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    originals: np.ndarray | None = None
    sha256s: np.ndarray | None = None
    deliveries: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.dataset) == len(self.labels) == len(self.subsets):
            raise InputError(f"{len(self.dataset)} pictures, {len(self.labels)} labels and {len(self.subsets)} subset names do not match")
        unknown = sorted(set(self.subsets[self.labels == FAKE].tolist()) - set(self.real_of))
        if unknown:
            raise InputError(f"the subset {unknown[0]!r} has no real source", "Name one for it in `real_of`")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fake_subsets(self) -> list[str]:
        """The subsets of fakes that this split has pictures of, in order of `real_of`."""
        present = set(self.subsets[self.labels == FAKE].tolist())
        return [name for name in self.real_of if name in present]

    def sources_of(self, subset: str) -> tuple[str, ...]:
        """The real sources of a subset of fakes."""
        sources = self.real_of[subset]
        return (sources,) if isinstance(sources, str) else tuple(sources)

    def rows_of(self, subset: str) -> np.ndarray:
        """The fakes of `subset` and all reals of its real sources (int `[n]`, ascending)."""
        return np.flatnonzero(self._is_fake_of(subset) | self._is_real_of(subset))

    def evaluated_rows(self, subset: str) -> np.ndarray:
        """The rows that `subset` is evaluated on: its fakes and as many reals of its sources (or all of them), int `[n]`, ascending.

        AP depends on the share of fakes, so a subset with more reals beside it would not compare with another. The reals stand in one
        order for all subsets of the same sources, so that these are evaluated on the same ones.
        """
        fakes, reals = np.flatnonzero(self._is_fake_of(subset)), np.flatnonzero(self._is_real_of(subset))
        order = np.random.default_rng(zlib.crc32(" ".join(self.sources_of(subset)).encode())).permutation(len(reals))
        return np.sort(np.concatenate([fakes, reals[order[: len(fakes)]]]))

    def _is_fake_of(self, subset: str) -> np.ndarray:
        return (self.labels == FAKE) & (self.subsets == subset)

    def _is_real_of(self, subset: str) -> np.ndarray:
        return (self.labels == REAL) & np.isin(self.subsets, self.sources_of(subset))

    def take(self, rows: Sequence[int] | np.ndarray) -> DetectionData:
        """Only these rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        digest = hashlib.sha256(self.digest.encode() + rows.tobytes()).hexdigest()
        names = ("ids", "originals", "sha256s", "deliveries")
        columns = {name: None if (column := getattr(self, name)) is None else column[rows] for name in names}
        kept = {"labels": self.labels[rows], "subsets": self.subsets[rows], "digest": digest, **columns}
        return replace(self, dataset=Rows(self.dataset, rows), **kept)

    def original_rows(self) -> np.ndarray:
        """For each row that of the real picture which it was made from, int `[N]`; -1 for a real picture, and where it is not known or not
        in this split."""
        rows = np.full(len(self), -1, np.int64)
        if self.originals is None or self.ids is None:
            return rows
        reals = {str(self.ids[row]): int(row) for row in np.flatnonzero(self.labels == REAL)}
        for row in np.flatnonzero((self.labels == FAKE) & (self.originals != "")):
            rows[row] = reals.get(str(self.originals[row]), -1)
        return rows

    def picture_ids(self) -> list[str]:
        """The id of every picture in order; they are read if they are not known otherwise."""
        if self.ids is not None:
            return self.ids.tolist()
        return [self.dataset[row].id for row in range(len(self))]

    def only(self, subsets: Sequence[str]) -> DetectionData:
        """The fakes of `subsets` and the reals of their sources. Raises InputError for a subset that is not there."""
        missing = [name for name in subsets if name not in self.fake_subsets]
        if missing:
            raise InputError(f"there is no subset {missing[0]!r} in the data", f"It has: {', '.join(self.fake_subsets) or 'no fakes'}")
        return self.take(np.unique(np.concatenate([self.rows_of(name) for name in subsets])))


class DetectionSplits(NamedTuple):
    """Training, validation (early stop and the threshold; never the test split) and test."""

    train: DetectionData
    validation: DetectionData
    test: DetectionData

    @property
    def digest(self) -> str:
        """Hex sha256 of the three splits' digests."""
        return hashlib.sha256(" ".join(split.digest for split in self).encode()).hexdigest()

    @property
    def notes(self) -> list[str]:
        """What is to be said of the splits, each sentence once."""
        return list(dict.fromkeys(note for split in self for note in split.notes))

    def only(self, subsets: Sequence[str], test: bool = False) -> DetectionSplits:
        """Trained (and validated) on `subsets` alone; the test split keeps every subset unless `test`."""
        return DetectionSplits(self.train.only(subsets), self.validation.only(subsets), self.test.only(subsets) if test else self.test)


@dataclass(frozen=True)
class Rows:
    """Some rows of a dataset, as a dataset."""

    dataset: ItemDataset
    rows: np.ndarray

    def __getitem__(self, index: int) -> Item:
        return self.dataset[int(self.rows[index])]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        return items_of(self.dataset, self.rows[list(indices)].tolist())

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class FileDataset:
    """Pictures that lie in files."""

    entries: list[Entry] = field(repr=False)

    def __getitem__(self, index: int) -> Item:
        entry = self.entries[index]
        return Item(read_image(entry.file), entry.label, entry.subset, entry.id)

    def __len__(self) -> int:
        return len(self.entries)


def from_folders(
    path: Path | str,
    fractions: tuple[float, float] = FRACTIONS,
    families: dict[str, str] | None = None,
    seed: int = 0,
    *,
    labels: LabelRule | None = None,
    groups: str = "auto",
) -> DetectionSplits:
    """Pictures in class folders such as `real/` and `fake/` (`reading.labels`), at any depth under `path`.

    `path/real` and `path/fake` are one subset, "fake"; `path/NAME/real` and `path/NAME/fake` are the subset NAME, whose real source is
    "NAME/real". If all pictures lie in folders of splits (`reading.split_names`), above or below the class, those are the splits; there
    must be a training and a test split, and without a validation split it is taken from training. Otherwise `fractions` of the pictures go
    to validation and test, by a hash of their group (`reading.grouping`): the same files always fall the same way, and frames of a video,
    pictures of a person, and a fake and a real of one name stay together.

    Ids are paths below `path`. Raises InputError if a class is missing, a split is empty, a name is not certain, or the same picture lies
    in both classes.
    """
    folder = scan(Path(path), labels)
    notes, given = list(folder.notes), folder.splits
    parts: dict[str, list[Entry]]
    if not given:
        grouped = group_entries(folder.entries, folder.path, groups)
        parts = dict(zip(SPLITS, divide(folder.entries, grouped.groups, fractions, seed), strict=True))
        notes += [f"{path} has no split folders: its pictures are divided into training, validation and test", grouped.note]
    else:
        missing = [split for split in ("train", "test") if split not in given]
        if missing:
            raise InputError(
                f"{path} has the split{'s' if len(given) > 1 else ''} {' and '.join(given)}, but no {missing[0]} split",
                "Add it, or take the pictures out of their split folders",
            )
        parts = {split: folder.of_split(split) for split in SPLITS}
        if not parts["validation"]:
            grouped = group_entries(parts["train"], folder.path, groups)
            share = fractions[0] / (1 - fractions[1])
            parts["train"], parts["validation"], _ = divide(parts["train"], grouped.groups, (share, 0.0), seed)
            notes += [f"{path} has no validation split: it is taken from training", grouped.note]
    for split, entries in parts.items():
        for label, kind in enumerate(CLASSES):
            if not any(entry.label == label for entry in entries):
                raise InputError(
                    f"the {split} split of {path} has no {kind} picture",
                    "Each class needs at least three pictures or groups of them, and better hundreds",
                )
    contents = sha256s(folder.entries)
    notes.append(shared_pictures({split: [contents[entry.id] for entry in entries] for split, entries in parts.items()}))
    said_once = tuple(note for note in notes if note)
    splits = DetectionSplits(*(describe(parts[split], contents, families, folder.path, said_once) for split in SPLITS))
    origin = {**splits.train.origin, "folder_digest": splits.digest}  # stays when a part of the data is taken
    return DetectionSplits(*(replace(split, origin=origin) for split in splits))


def single_split(
    path: Path | str, families: dict[str, str] | None = None, *, labels: LabelRule | None = None, split: str | None = None
) -> DetectionData:
    """All pictures of a folder as one split, or those of one of its splits: a further test set (Table 5 of the paper)."""
    folder = scan(Path(path), labels)
    return describe_folder(folder, folder.of_split(split) if split else folder.entries, families)


def describe_folder(folder: Folder, entries: Sequence[Entry], families: dict[str, str] | None = None) -> DetectionData:
    """Some pictures of a folder as a split. InputError if the same picture lies in both classes."""
    return describe(entries, sha256s(entries), families, folder.path, folder.notes)


def describe(
    entries: Sequence[Entry], contents: dict[str, str], families: dict[str, str] | None, path: Path, notes: tuple[str, ...]
) -> DetectionData:
    """Files as a split; `contents` is the sha256 of each picture's bytes, by id."""
    labels = np.array([entry.label for entry in entries], dtype=np.int64)
    subsets = np.array([entry.subset for entry in entries], dtype=object).astype(str)
    fakes = list(dict.fromkeys(subsets[labels == FAKE].tolist()))
    listing = "\n".join(f"{entry.label}\t{entry.subset}\t{entry.id}\t{contents[entry.id]}" for entry in entries)
    unused = sorted(set(subsets[labels == REAL].tolist()) - {real_source_of(name) for name in fakes})
    if unused:
        count = int(np.isin(subsets[labels == REAL], unused).sum())
        notes = (*notes, f"{counted(count, 'real')} of {', '.join(unused)} have no fakes beside them, and are in no row of the results")
    return DetectionData(
        FileDataset(list(entries)),
        labels,
        subsets,
        {name: real_source_of(name) for name in fakes},
        {name: (families or {}).get(name, "other") for name in fakes},
        hashlib.sha256(listing.encode()).hexdigest(),
        np.array([entry.id for entry in entries], dtype=object).astype(str),
        {"folder": str(path.resolve())},
        notes,
        np.array(_originals(entries), dtype=object).astype(str),
        np.array([contents[entry.id] for entry in entries], dtype=object).astype(str),
    )


def _originals(entries: Sequence[Entry]) -> list[str]:
    """For each fake the id of the one real picture of its source that has its name (and lies in folders of the same names); "" if there
    is none, or more than one."""
    reals: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        if entry.label == REAL:
            reals.setdefault((entry.subset, *entry.below, entry.file.stem), []).append(entry.id)
    named = [
        reals.get((real_source_of(entry.subset), *entry.below, entry.file.stem), []) if entry.label == FAKE else [] for entry in entries
    ]
    return [ids[0] if len(ids) == 1 else "" for ids in named]

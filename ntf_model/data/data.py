"""What a detector is trained and tested on: pictures with a label and a subset, in three splits.

A subset is one way of making fakes ("SimSwap_LDM"); a real picture's subset is the name of its real source ("celebahq"). A subset is always
evaluated against the reals of its own source, because a real picture of other content says nothing about the generator.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ntf_model.data.images import list_images, read_image
from ntf_model.errors import InputError

REAL, FAKE = 0, 1
REAL_FOLDERS, FAKE_FOLDERS = frozenset({"real", "0_real"}), frozenset({"fake", "1_fake"})  # the second as in Wang et al. 2020
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


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
    without reading them.
    """

    dataset: ItemDataset
    labels: np.ndarray
    subsets: np.ndarray
    real_of: Mapping[str, str | tuple[str, ...]]
    families: dict[str, str]
    digest: str
    ids: np.ndarray | None = None

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
        ids = None if self.ids is None else self.ids[rows]
        return DetectionData(Rows(self.dataset, rows), self.labels[rows], self.subsets[rows], self.real_of, self.families, digest, ids)

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
    """Pictures that lie in files: `entries` are (file, label, subset, id)."""

    entries: list[tuple[Path, int, str, str]] = field(repr=False)

    def __getitem__(self, index: int) -> Item:
        file, label, subset, name = self.entries[index]
        return Item(read_image(file), label, subset, name)

    def __len__(self) -> int:
        return len(self.entries)


def from_folders(
    path: Path | str, fractions: tuple[float, float] = (0.15, 0.15), families: dict[str, str] | None = None, seed: int = 0
) -> DetectionSplits:
    """Pictures from folders `real/` and `fake/` (or `0_real/` and `1_fake/`), at any depth under `path`.

    `path/real` and `path/fake` are one subset, "fake"; `path/NAME/real` and `path/NAME/fake` are the subset NAME, whose real source is
    "NAME/real". If `path` has the folders `train` and `test` (and perhaps `validation`), those are the splits; otherwise `fractions` of the
    pictures go to validation and test, in the order of a hash of the file's name: the same files always fall the same way, and files of one
    name (a fake and the real that it was made from) stay together. Raises InputError if a class is missing or a split is empty.
    """
    path = Path(path)
    given = {split: next((path / name for name in names if (path / name).is_dir()), None) for split, names in SPLIT_FOLDERS.items()}
    if given["train"] and given["test"]:
        parts = {split: _find(folder) for split, folder in given.items() if folder}
        if "validation" not in parts:
            share = fractions[0] / (1 - fractions[1])
            parts["train"], parts["validation"], _ = _divide(parts["train"], (share, 0.0), seed)
    else:
        parts = dict(zip(SPLIT_FOLDERS, _divide(_find(path), fractions, seed), strict=True))
    for split, entries in parts.items():
        for label, kind in ((REAL, "real"), (FAKE, "fake")):
            if not any(entry[1] == label for entry in entries):
                raise InputError(
                    f"the {split} split of {path} has no {kind} picture", "Each class needs at least three, and better hundreds"
                )
    return DetectionSplits(*(describe(FileDataset(parts[split]), _sha256s(parts[split]), families or {}) for split in SPLIT_FOLDERS))


def single_split(path: Path | str, families: dict[str, str] | None = None) -> DetectionData:
    """All pictures under `real/` and `fake/` folders as one split: a further test set (Table 5 of the paper)."""
    entries = _find(Path(path))
    return describe(FileDataset(entries), _sha256s(entries), families or {})


def describe(dataset: FileDataset, contents: Sequence[str], families: dict[str, str]) -> DetectionData:
    """A dataset of files as a split; `contents` is the sha256 of each picture's bytes."""
    labels = np.array([entry[1] for entry in dataset.entries], dtype=np.int64)
    subsets = np.array([entry[2] for entry in dataset.entries], dtype=object).astype(str)
    fakes = list(dict.fromkeys(subsets[labels == FAKE].tolist()))
    listing = "\n".join(f"{entry[1]}\t{entry[2]}\t{entry[3]}\t{content}" for entry, content in zip(dataset.entries, contents, strict=True))
    real_of = {name: real_source_of(name) for name in fakes}
    return DetectionData(
        dataset,
        labels,
        subsets,
        real_of,
        {name: families.get(name, "other") for name in fakes},
        hashlib.sha256(listing.encode()).hexdigest(),
        np.array([entry[3] for entry in dataset.entries], dtype=object).astype(str),
    )


def real_source_of(subset: str) -> str:
    """The name that folders give to the real source of a subset."""
    return "real" if subset == "fake" else f"{subset}/real"


def _find(path: Path) -> list[tuple[Path, int, str, str]]:
    """Every picture in a class folder under `path`, with its label, subset and id (its relative path), in order of the ids."""
    if not path.is_dir():
        raise InputError(f"there is no folder {path}", "Give one that holds `real/` and `fake/`")
    entries = []
    for folder in sorted([path, *(part for part in path.rglob("*") if part.is_dir())]):
        if folder.name in REAL_FOLDERS | FAKE_FOLDERS and folder != path:
            subset = folder.parent.relative_to(path).as_posix() if folder.parent != path else "fake"
            label = FAKE if folder.name in FAKE_FOLDERS else REAL
            name = subset if label == FAKE else real_source_of(subset)
            entries += [(file, label, name, file.relative_to(path).as_posix()) for file in list_images(folder)]
    if not entries:
        raise InputError(
            f"{path} has no pictures in folders `real` and `fake`",
            "Put them in `real/` and `fake/`, or in `SUBSET/real/` and `SUBSET/fake/`",
        )
    return sorted(entries, key=lambda entry: entry[3])


def _divide(entries: list[tuple[Path, int, str, str]], fractions: tuple[float, float], seed: int) -> tuple[list, list, list]:
    """Training, validation and test entries; files of one name go together.

    Names that occur in the same classes are divided among themselves, so that each class is cut in the same proportion.
    """
    by_name: dict[str, list] = defaultdict(list)
    for entry in entries:
        by_name[entry[0].stem].append(entry)
    strata: dict[tuple, list[str]] = defaultdict(list)
    for name, group in by_name.items():
        strata[tuple(sorted({(entry[2], entry[1]) for entry in group}))].append(name)
    parts: tuple[list, list, list] = ([], [], [])
    for names in strata.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\x1f{name}".encode()).digest())
        counts = [max(round(share * len(ordered)), 1) if share and len(ordered) > 2 else 0 for share in fractions]
        for rank, name in enumerate(ordered):
            which = 1 if rank < counts[0] else 2 if rank < sum(counts) else 0
            parts[which].extend(by_name[name])
    first, second, third = (sorted(part, key=lambda entry: entry[3]) for part in parts)
    return first, second, third


def _sha256s(entries: list[tuple[Path, int, str, str]]) -> list[str]:
    return [hashlib.sha256(entry[0].read_bytes()).hexdigest() for entry in entries]

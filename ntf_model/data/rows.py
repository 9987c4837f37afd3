"""Detector data from rows: a Hugging Face dataset, or any sequence of rows with a picture and a label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ntf_model.data.data import DetectionSplits, Item
from ntf_model.data.facts import Facts, described
from ntf_model.data.pictures import as_picture
from ntf_model.data.reading.checks import shared_pictures
from ntf_model.data.reading.labels import CLASSES, FAKE, LabelRule
from ntf_model.data.reading.split_names import SPLITS, by_split
from ntf_model.errors import InputError


class RowDataset:
    """A split of a Hugging Face dataset, or any sequence of rows with a picture."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], image: str, labels: np.ndarray, subsets: np.ndarray, ids: list[str]):
        self.rows, self.image, self.labels, self.subsets, self.ids = rows, image, labels, subsets, ids

    def __getitem__(self, index: int) -> Item:
        index = int(index)
        name = self.ids[index]
        return Item(_picture(self.rows[index][self.image], name), int(self.labels[index]), str(self.subsets[index]), name)

    def __len__(self) -> int:
        return len(self.ids)


def from_huggingface(name: str, *, revision: str | None = None, **columns: Any) -> DetectionSplits:
    """A dataset of the Hugging Face Hub, or a folder of Parquet files or that `save_to_disk` wrote; its splits: train, validation, test.

    `columns` as for `from_rows`. Raises InputError if the library `datasets` is not installed or the dataset cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise InputError("reading Hugging Face datasets needs the library `datasets`", "Install it: `pip install datasets`") from None
    try:
        loaded = (
            datasets.load_from_disk(name)
            if (Path(name) / "dataset_dict.json").is_file()
            else datasets.load_dataset(name, revision=revision)
        )
    except Exception as error:  # the library raises its own kinds, and those of pyarrow
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"the dataset {name} cannot be read ({reason})", "Check its name, or download it first") from None
    # Left as bytes for our own decoder: the library would try every format that Pillow knows
    for split, rows in loaded.items():
        for column in [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]:
            loaded[split] = loaded[split].cast_column(column, datasets.Image(decode=False))
    return from_rows(loaded, **columns)


def from_rows(
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    image: str = "image",
    label: str = "label",
    subset: str = "subset",
    real_of: Mapping[str, str] | None = None,
    families: Mapping[str, str] | None = None,
    labels: LabelRule | None = None,
) -> DetectionSplits:
    """Splits of rows with the columns `image` (a PIL picture, bytes, or a dict with "bytes"), `label` and `subset`.

    A `ClassLabel` is read by the names of its classes, other labels as `ntf_model.data.reading.labels` says. Without a column `subset` all
    fakes are the subset "fake" and all reals "real". `real_of` names each subset's real source; unnamed ones have what the columns
    `real_source` (or `real`) and `family` say, or take the only source there is. Raises InputError if a split or column is missing, for a
    split that is not known, a label that is not certain, and a picture or `id` in both classes.
    """
    named = by_split(splits, "the dataset")
    missing = [split for split in SPLITS if split not in named]
    if missing:
        raise InputError(f"the dataset has no split {missing[0]!r}", f"It has: {', '.join(splits)}")
    parts, all_contents = [], {}
    for split in SPLITS:
        rows = splits[named[split]]
        classes = _classes(rows, label, split)
        facts = Facts(real_of or {}, families or {})
        given, subsets, contents, given_ids, targets = [], [], [], [], []
        ids = [f"{split}/{index}" for index in range(len(rows))]
        for index in range(len(rows)):
            row = rows[index]  # once, because it may decode the picture
            given.append((labels or LabelRule()).of_value(_column(row, label, split), f"row {index} of {split}", classes))
            name = row.get(subset, CLASSES[given[-1]])
            if name is None or not str(name).strip():
                raise InputError(f"row {index} of {split} has no {subset}", "Fill the column, or leave it out")
            subsets.append(str(name))
            contents.append(hashlib.sha256(_picture(_column(row, image, split), ids[index]).tobytes()).hexdigest())
            given_ids.append(row.get("id"))
            targets.append(row.get("target_id"))
            if given[-1] == FAKE:
                facts.note(row, subsets[-1])
        _check_ids(given_ids, given, split)
        all_contents[split] = contents
        arrays = np.array(given, dtype=np.int64), np.array(subsets, dtype=object).astype(str)
        where = f"the {split} split"
        own_ids = {name: own for name, own in zip(given_ids, ids, strict=True) if name is not None}
        originals = [own_ids.get(target, "") if target is not None else "" for target in targets]
        parts.append(described(RowDataset(rows, image, *arrays, ids), *arrays, ids, contents, facts, where, originals=originals))
    note = shared_pictures(all_contents)
    train, validation, test = parts
    return DetectionSplits(train, validation, replace(test, notes=(*test.notes, note)) if note else test)


def _classes(rows: Any, label: str, split: str) -> list[str] | None:
    """The names of a column's classes; None if it is no `ClassLabel`."""
    feature = (getattr(rows, "features", None) or {}).get(label)
    names = getattr(feature, "names", None)
    if names is None and type(feature).__name__ in ("Sequence", "List", "LargeList"):
        raise InputError(f"the column {label!r} of {split} has a list of labels in each row", "Give each picture one label")
    return names


def _check_ids(ids: Sequence[Any], labels: Sequence[int], split: str) -> None:
    """InputError if rows of one `id` have both labels."""
    first: dict[Any, int] = {}
    for name, label in zip(ids, labels, strict=True):
        if name is not None and first.setdefault(name, label) != label:
            raise InputError(f"the id {name!r} is both real and fake in the {split} split", "Give each picture one label")


def _picture(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise InputError(f"{name} has no picture", "Fill the image column, or leave the row out")
    return as_picture(value, name)


def _column(row: Mapping[str, Any], name: str, split: str) -> Any:
    if name not in row:
        raise InputError(f"the {split} split has no column {name!r}", f"It has: {', '.join(row)}")
    return row[name]

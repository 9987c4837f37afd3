"""Detector data from a path, in whatever form it has: WebDataset shards, a Hugging Face dataset, pictures in folders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ntf_model.data.data import DetectionData, DetectionSplits, describe_folder, from_folders
from ntf_model.data.reading.labels import LabelRule
from ntf_model.data.reading.listing import is_foreign
from ntf_model.data.reading.scan import scan
from ntf_model.data.reading.split_names import ACCEPTED, SPLITS, looks_like_a_split, split_of
from ntf_model.data.rows import from_huggingface, from_rows
from ntf_model.data.shards import from_webdataset
from ntf_model.errors import InputError, counted

__all__ = ["EvaluationData", "evaluation_data", "from_huggingface", "from_path", "from_rows", "from_webdataset"]

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # of the Hub's image folders: the labels of pictures beside them


class EvaluationData(NamedTuple):
    """What a detector is evaluated on, the pictures that its threshold is fixed on (None: the one it was saved with), a sentence that
    says which pictures these are, and the ids of all other pictures of the folder."""

    test: DetectionData
    validation: DetectionData | None
    said: str
    others: list[str]


def from_path(path: Path | str, *, labels: LabelRule | None = None, groups: str = "auto") -> DetectionSplits:
    """The splits in a folder: WebDataset shards (`train*.tar` or `train/*.tar`, and so on), a Hugging Face dataset (what `save_to_disk`
    wrote, or Parquet files), or pictures in class folders. The exports of the store are all of these.

    Raises InputError if it is not certain which of these the folder is.
    """
    path = Path(path)
    return _packed(path, labels) or from_folders(path, labels=labels, groups=groups)


def evaluation_data(
    path: Path | str, *, labels: LabelRule | None = None, groups: str = "auto", trained: Iterable[tuple[str, str]] = ()
) -> EvaluationData:
    """What to evaluate on in a folder. `trained` has (folder, digest of its splits) of each detector.

    The test split, if the folder has splits. A folder without splits is scored whole, unless a detector was trained on it: then it is what
    training set apart for testing. Raises InputError if that folder has changed since, because nobody knows then what was trained on.
    """
    path = Path(path)
    splits = _packed(path, labels)
    if splits:
        said = f"the test split of {path}: {counted(len(splits.test), 'picture')}"
        return EvaluationData(splits.test, splits.validation, said, splits.train.picture_ids())
    folder = scan(path, labels)
    others = [entry.id for entry in folder.entries]
    if folder.splits:
        if "test" not in folder.splits:
            raise InputError(f"{path} has the splits {' and '.join(folder.splits)}, but no test split", "Evaluate on a folder that has one")
        test = describe_folder(folder, folder.of_split("test"))
        held_out = folder.of_split("validation")
        validation = describe_folder(folder, held_out) if {entry.label for entry in held_out} == {0, 1} else None
        return EvaluationData(test, validation, f"the test split of {path}: {counted(len(test), 'picture')}", others)
    digests = {digest for trained_on, digest in trained if trained_on == str(path.resolve())}
    if digests:
        splits = from_folders(path, labels=labels, groups=groups)
        if digests != {splits.train.origin["folder_digest"]}:
            raise InputError(
                f"the detector was trained on {path}, which has changed since", "Train again, or evaluate on a folder of its own"
            )
        said = f"the {counted(len(splits.test), 'picture')} of {path} that training set apart for testing"
        return EvaluationData(splits.test, splits.validation, said, others)
    whole = describe_folder(folder, folder.entries)
    said = f"all of the {counted(len(whole), 'picture')} of {path}, which has no split folders"
    return EvaluationData(whole, None, said, others)


def _packed(path: Path, labels: LabelRule | None) -> DetectionSplits | None:
    """The splits in shards or in a Hugging Face dataset; None if the folder has neither."""
    tars = sorted(file for pattern in ("*.tar", "*/*.tar") for file in path.glob(pattern) if not is_foreign(str(file.relative_to(path))))
    parquet = sorted(file for pattern in ("*.parquet", "data/*.parquet") for file in path.glob(pattern) if file.name not in METADATA)
    saved = (path / "dataset_dict.json").is_file()
    listed = [file for pattern in METADATA for at in ("", "*/") for file in path.glob(at + pattern)]
    kinds = {"tar files": tars, "Parquet files": parquet, "a saved dataset": saved}
    present = [kind for kind, value in kinds.items() if value]
    if present and _has_classes(path, labels):
        present.append("pictures in class folders")
    if len(present) > 1:
        raise InputError(f"{path} has {' and '.join(present)}", "Keep one of them: it is not certain which are meant")
    if tars:
        shards = _shards_by_split(path, tars)
        return from_webdataset(shards["train"], shards["validation"], shards["test"], labels=labels)
    if parquet or saved or (listed and not _has_classes(path, labels)):
        return from_huggingface(str(path), labels=labels)
    return None


def _has_classes(path: Path, labels: LabelRule | None) -> bool:
    """Whether a folder of a class lies in one of the first three levels."""
    rule = labels or LabelRule()
    return any(
        folder.is_dir() and rule.of_folder(folder.name)[0] is not None and not is_foreign(str(folder.relative_to(path)))
        for pattern in ("*", "*/*", "*/*/*")
        for folder in path.glob(pattern)
    )


def _shards_by_split(path: Path, tars: list[Path]) -> dict[str, list[Path]]:
    """The shards of each split, which the folder or else the beginning of the file's name says."""
    shards: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for file in tars:
        inside = file.relative_to(path).parts
        name = inside[0] if len(inside) > 1 else re.split(r"[^A-Za-z]", file.name)[0]
        split = split_of(name)
        if split is None:
            looks = " exactly" if looks_like_a_split(file.stem) else ""
            raise InputError(
                f"the shard {file} is of no split that is{looks} known", f"Begin its name with one of {ACCEPTED}, or move it out"
            )
        shards[split].append(file)
    missing = [split for split, files in shards.items() if not files]
    if missing:
        raise InputError(f"{path} has no shards of the split {missing[0]!r}", f"Name them {missing[0]}-000000.tar and so on")
    return shards

"""Detector data from WebDataset shards, from Hugging Face datasets, and from a path in whatever form it is."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foreign.pictures import decode_pil
from ntf_model.data.data import FAKE, REAL, SPLIT_FOLDERS, DetectionData, DetectionSplits, Item, from_folders
from ntf_model.data.images import IMAGE_SUFFIXES, read_image
from ntf_model.errors import InputError

SOURCE_KEYS = ("real_source", "real", "part")  # how a fake's row names its real source: here, in the store, in a store of schema 1
LABEL_NAMES = {"real": REAL, "fake": FAKE, "0": REAL, "1": FAKE}


def from_path(path: Path | str) -> DetectionSplits:
    """The splits in a folder: WebDataset shards (`train*.tar` or `train/*.tar`, and so on), a Hugging Face dataset (what `save_to_disk`
    wrote, or Parquet files), or pictures in folders `real/` and `fake/`. The exports of the store are all of these."""
    path = Path(path)
    shards: dict[str, Any] = {
        split: sorted({file for name in names for pattern in (f"{name}*.tar", f"{name}/*.tar") for file in path.glob(pattern)})
        for split, names in SPLIT_FOLDERS.items()
    }
    if any(shards.values()):
        missing = [split for split, files in shards.items() if not files]
        if missing:
            raise InputError(f"{path} has no shards of the split {missing[0]!r}", f"Name them {missing[0]}-000000.tar and so on")
        return from_webdataset(**shards)
    if (path / "dataset_dict.json").is_file() or any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
        return from_huggingface(str(path))
    return from_folders(path)


class TarDataset:
    """Pictures that lie in tar files, read in any order by their place in the file. Nothing in the files is executed."""

    def __init__(self, entries: list[tuple[Path, int, int, int, str, str]]):
        self.entries = entries  # (shard, offset, size, label, subset, id)
        self.local = threading.local()  # an open file has one position: each thread opens its own

    def __getitem__(self, index: int) -> Item:
        shard, offset, size, label, subset, name = self.entries[index]
        streams = self.local.__dict__.setdefault("streams", {})
        if shard not in streams:
            streams[shard] = shard.open("rb")
        streams[shard].seek(offset)
        return Item(read_image(streams[shard].read(size), name), label, subset, name)

    def __len__(self) -> int:
        return len(self.entries)


def from_webdataset(
    train: Sequence[Path | str],
    validation: Sequence[Path | str],
    test: Sequence[Path | str],
    *,
    real_of: Mapping[str, str] | None = None,
    families: Mapping[str, str] | None = None,
) -> DetectionSplits:
    """Shards in the WebDataset layout: for each key a picture and a `.json` with `label` (0 or "real", 1 or "fake") and `subset`.

    A fake's json may also name its `real_source` (or `real`) and `family`, which `real_of` and `families` overrule. Raises InputError,
    naming the shard and the key, if something is missing or a shard is damaged.
    """
    return DetectionSplits(*(_read_shards(list(map(Path, shards)), real_of or {}, families or {}) for shards in (train, validation, test)))


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
    except (OSError, ValueError) as error:
        raise InputError(
            f"the dataset {name} cannot be read ({str(error).splitlines()[0]})", "Check its name, or download it first"
        ) from None
    # Left as bytes for our own decoder: the library would try every format that Pillow knows.
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
) -> DetectionSplits:
    """Splits of rows with the columns `image` (a PIL picture, bytes, or a dict with "bytes"), `label` and `subset`.

    Without a column `subset` all fakes are the subset "fake" and all reals "real". `real_of` names each subset's real source; unnamed ones
    have what the columns `real_source` (or `real`) and `family` say, or take the only source there is. Raises InputError if a split or
    column is missing.
    """
    parts = []
    for split, names in SPLIT_FOLDERS.items():
        rows = next((splits[name] for name in names if name in splits), None)
        if rows is None:
            raise InputError(f"the dataset has no split {split!r}", f"It has: {', '.join(splits)}")
        facts = _Facts(real_of or {}, families or {})
        labels, subsets, contents = [], [], []
        ids = [f"{split}/{index}" for index in range(len(rows))]
        for index in range(len(rows)):
            row = rows[index]  # once, because it may decode the picture
            labels.append(_label(_column(row, label, split), f"row {index} of {split}"))
            subsets.append(str(row.get(subset, ("real", "fake")[labels[-1]])))
            contents.append(hashlib.sha256(_picture(_column(row, image, split), ids[index]).tobytes()).hexdigest())
            if labels[-1] == FAKE:
                facts.note(row, subsets[-1])
        arrays = np.array(labels, dtype=np.int64), np.array(subsets, dtype=object).astype(str)
        parts.append(_describe(RowDataset(rows, image, *arrays, ids), *arrays, ids, contents, facts))
    return DetectionSplits(*parts)


def _read_shards(shards: list[Path], real_of: Mapping[str, str], families: Mapping[str, str]) -> DetectionData:
    entries: list[tuple[Path, int, int, int, str, str]] = []
    contents: list[str] = []
    facts_of = _Facts(real_of, families)
    for shard in shards:
        for key, members in _samples(shard).items():
            facts = members.get(".json")
            pictures = [suffix for suffix in members if suffix in IMAGE_SUFFIXES]
            if facts is None or not pictures:
                missing = ".json" if facts is None else "picture"
                raise InputError(f"{shard}: the sample {key} has no {missing}", "The writer may have been killed: make the shard again")
            info = _json(facts[2], f"{shard}: {key}.json")
            label, subset = _label(info.get("label"), f"{shard}: {key}"), str(info.get("subset", ""))
            subset = subset or ("real", "fake")[label]
            if label == FAKE:
                facts_of.note(info, subset)
            offset, size, data = members[pictures[0]]
            entries.append((shard, offset, size, label, subset, f"{shard.name}/{key}"))
            contents.append(hashlib.sha256(data).hexdigest())
    labels = np.array([entry[3] for entry in entries], dtype=np.int64)
    subsets = np.array([entry[4] for entry in entries], dtype=object).astype(str)
    return _describe(TarDataset(entries), labels, subsets, [entry[5] for entry in entries], contents, facts_of)


def _samples(shard: Path) -> dict[str, dict[str, tuple[int, int, bytes]]]:
    """For each key its members by suffix: (offset of the data in the shard, size, data)."""
    samples: dict[str, dict[str, tuple[int, int, bytes]]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile() and (stream := tar.extractfile(member)):
                    path, data = Path(member.name), stream.read()
                    samples.setdefault(str(path.with_suffix("")), {})[path.suffix.lower()] = (member.offset_data, member.size, data)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"the shard {shard} cannot be read ({error})", "Check the path, or make the shard again") from None
    return samples


class _Facts:
    """Real sources and families of the subsets of fakes: as given, else what the fakes' rows say."""

    def __init__(self, real_of: Mapping[str, str], families: Mapping[str, str]):
        self.real_of, self.families = real_of, dict(families)
        self.sources: dict[str, dict[str, None]] = {}  # of a subset, in order: one with several parts has several

    def note(self, row: Mapping[str, Any], subset: str) -> None:
        source = next((row[key] for key in SOURCE_KEYS if row.get(key)), None)
        if source is not None:
            self.sources.setdefault(subset, {})[str(source)] = None
        if row.get("family"):
            self.families.setdefault(subset, str(row["family"]))

    def sources_of(self, subset: str, all_sources: Sequence[str]) -> str | tuple[str, ...]:
        if subset in self.real_of:
            return self.real_of[subset]
        names = tuple(self.sources.get(subset, ())) or tuple(all_sources)
        if len(names) == 1:
            return names[0]
        if subset in self.sources:
            return names
        raise InputError(
            f"which reals does the subset {subset!r} belong to? There are {', '.join(all_sources) or 'none'}", "Name them in `real_of`"
        )


def _describe(
    dataset: Any, labels: np.ndarray, subsets: np.ndarray, ids: Sequence[str], contents: Sequence[str], facts: _Facts
) -> DetectionData:
    fakes = list(dict.fromkeys(subsets[labels == FAKE].tolist()))
    sources = list(dict.fromkeys(subsets[labels == REAL].tolist()))
    named = {name: facts.sources_of(name, sources) for name in fakes}
    listing = "\n".join(
        f"{label}\t{name}\t{picture}\t{sha}" for label, name, picture, sha in zip(labels, subsets, ids, contents, strict=True)
    )
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return DetectionData(dataset, labels, subsets, named, {name: facts.families.get(name, "other") for name in fakes}, digest)


def _picture(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, bytes):
        return read_image(value, name)
    if isinstance(value, Image.Image):
        return decode_pil(value, name)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        return value
    raise InputError(f"{name} is no picture but {type(value).__name__}", "The image column must hold pictures")


def _column(row: Mapping[str, Any], name: str, split: str) -> Any:
    if name not in row:
        raise InputError(f"the {split} split has no column {name!r}", f"It has: {', '.join(row)}")
    return row[name]


def _label(value: Any, where: str) -> int:
    label = LABEL_NAMES.get(str(value).lower())
    if label is None:
        raise InputError(f"{where}: the label {value!r} is neither real nor fake", 'Use 0 or "real", 1 or "fake"')
    return label


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        facts = json.load(io.BytesIO(data))
    except ValueError as error:
        raise InputError(f"{where} is damaged ({error})", "Make the shard again") from None
    if not isinstance(facts, dict):
        raise InputError(f"{where} is no JSON object", "Make the shard again")
    return facts

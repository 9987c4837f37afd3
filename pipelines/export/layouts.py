"""The layouts: each writes a selection into an empty folder, and yields its row and file for every image."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.export.selection import Exportable, Selection
from pipelines.images import ENDINGS
from pipelines.manifest.splits import Split
from pipelines.store.schema import SCHEMA

SHARD_IMAGES = 1000  # in a tar or Parquet file, unless that would be too many files
FOLDER_FILES = 9_000  # in a folder that goes to the Hub, which takes 10,000
ROW_GROUP = 100
Marked = Callable[[bytes, dict[str, Any]], bytes]
Written = Iterator[tuple[dict[str, Any], str]]


def folders(selection: Selection, output: Path, marked: Marked) -> Written:
    """`SPLIT/SUBSET/{real,fake}/FILE`, or `SUBSET/{real,fake}/FILE` for a selection of one split. A subset's reals are those of its real
    sources, retouched ones too; where several subsets share them, the files are hard links to one. `mask/` beside them shows, under the
    same name, where each fake was reworked, if that is known."""
    for split in selection.splits:
        sources = _real_sources(selection, split)
        base = output / split if len(selection.splits) > 1 else output
        for row, image, mask in selection.rows(split):
            homes = [row["subset"]] if row["label"] else sources.get(row["real"], [row["subset"]])
            kind = "fake" if row["label"] else "real"
            files = [base / home / kind / f"{_plain(row['id'])}.{_suffix(row)}" for home in homes]
            _write(files[0], marked(image, row))
            for other in files[1:]:
                other.parent.mkdir(parents=True, exist_ok=True)
                os.link(files[0], other)
            if mask is not None:
                _write(base / homes[0] / "mask" / f"{_plain(row['id'])}.png", mask)
            yield row, files[0].relative_to(output).as_posix()


def webdataset(selection: Selection, output: Path, marked: Marked) -> Written:
    """`SPLIT-000000.tar`, ...: for each image `KEY.png` (or its format), `KEY.cls` with the label, `KEY.json` with the row, whose chain and
    measures are JSON texts, and `KEY.mask.png` where a mask is known."""
    for split in selection.splits:
        for shard, numbered in _shards(selection, split):
            file = f"{split}-{shard:06d}.tar"
            with tarfile.open(output / file, "w", format=tarfile.USTAR_FORMAT) as archive:
                for number, (row, image, mask) in numbered:
                    key = f"{split}{number:08d}"
                    facts = json.dumps({**row, **_texts(row)}, sort_keys=True).encode()
                    files = [(_suffix(row), marked(image, row)), ("cls", str(row["label"]).encode()), ("json", facts)]
                    for suffix, data in [*files, *([("mask.png", mask)] if mask is not None else [])]:
                        entry = tarfile.TarInfo(f"{key}.{suffix}")
                        entry.size = len(data)
                        archive.addfile(entry, io.BytesIO(data))
                    yield row, f"{file}/{key}.{_suffix(row)}"


def parquet(selection: Selection, output: Path, marked: Marked) -> Written:
    """`data/SPLIT-00000-of-00003.parquet`, ...: Hugging Face's form, with the image as the feature that `datasets` decodes."""
    columns = [column for column in SCHEMA if column.name not in ("image", "mask", "label")]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features: dict[str, dict[str, Any]] = {column.name: {"dtype": str(column.type), "_type": "Value"} for column in columns}
    features |= {"label": {"names": ["real", "fake"], "_type": "ClassLabel"}, "image": {"_type": "Image"}, "mask": {"_type": "Image"}}
    schema = pa.schema([*columns, ("label", pa.int64()), ("image", image_type), ("mask", image_type)])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (output / "data").mkdir()
    for split in selection.splits:
        total = -(-len(selection.addresses[split]) // _shard_images(selection))
        for shard, numbered in _shards(selection, split):
            file = f"data/{split}-{shard:05d}-of-{total:05d}.parquet"
            # A page index lets the Hub's viewer jump to a row, and content-defined pages let it keep what a new version did not change.
            with pq.ParquetWriter(output / file, schema, write_page_index=True, use_content_defined_chunking=True) as writer:
                while group := [pair for _, pair in islice(numbered, ROW_GROUP)]:
                    writer.write_table(pa.Table.from_pylist([_packed(row, marked(image, row), mask) for row, image, mask in group], schema))
                    for row, _, _ in group:
                        yield row, file


def imagefolder(selection: Selection, output: Path, marked: Marked) -> Written:
    """`SPLIT/FILE` with `SPLIT/metadata.jsonl`: the Hub's image folder, which shows and loads by itself. A split with too many files for
    one folder has them in `SPLIT/00000/` and so on."""
    for split in selection.splits:
        (output / split).mkdir()
        nested = len(selection.addresses[split]) > FOLDER_FILES
        with (output / split / "metadata.jsonl").open("w", encoding="utf-8") as listing:
            for number, (row, image, mask) in enumerate(selection.rows(split)):
                folder = f"{number // FOLDER_FILES:05d}/" if nested else ""
                name = f"{folder}{row['subset']}-{'fake' if row['label'] else 'real'}-{_plain(row['id'])}.{_suffix(row)}"
                _write(output / split / name, marked(image, row))
                masked = {}
                if mask is not None:
                    masked = {"mask_file_name": f"mask/{folder}{Path(name).stem}.png"}
                    _write(output / split / masked["mask_file_name"], mask)
                listing.write(json.dumps({"file_name": name, **masked, **row, **_texts(row)}, sort_keys=True) + "\n")
                yield row, f"{split}/{name}"


def lance_copy(selection: Selection, output: Path, marked: Marked) -> Written:
    """`NAME.lance`: a Lance dataset in the store's own schema, that this program opens as a store."""

    def batches() -> Iterator[pa.RecordBatch]:
        for split in selection.splits:
            for table in selection.tables(split):
                yield from table.cast(SCHEMA).to_batches()

    file = f"{selection.store.name}.lance"
    lance.write_dataset(pa.RecordBatchReader.from_batches(SCHEMA, batches()), str(output / file), schema=SCHEMA)
    for split in selection.splits:
        for row, _, _ in selection.rows(split):
            yield row, file


def _shards(selection: Selection, split: Split) -> Iterator[tuple[int, Iterator[tuple[int, Exportable]]]]:
    """The numbered rows of a split, `_shard_images` at a time, with the number of the shard."""
    images = _shard_images(selection)
    return groupby(enumerate(selection.rows(split)), key=lambda numbered: numbered[0] // images)


def _shard_images(selection: Selection) -> int:
    """How many images a tar or Parquet file holds: so many that the files of all splits fit into one folder."""
    return max(SHARD_IMAGES, -(-len(selection) // FOLDER_FILES))


def _texts(row: dict[str, Any]) -> dict[str, str]:
    """`chain` and `measures` as JSON: they have another shape in every row, and `datasets` would drop what its first rows lack."""
    return {key: json.dumps(row[key], sort_keys=True, separators=(",", ":")) for key in ("chain", "measures")}


def _packed(row: dict[str, Any], image: bytes, mask: bytes | None) -> dict[str, Any]:
    """A row for Parquet."""
    name = _plain(row["id"])
    covered = {"bytes": mask, "path": f"{name}-mask.png"} if mask is not None else None
    return {**row, **_texts(row), "image": {"bytes": image, "path": f"{name}.{_suffix(row)}"}, "mask": covered}


def _real_sources(selection: Selection, split: Split) -> dict[str, list[str]]:
    """For each real source, the subsets of fakes of a split that are compared with it."""
    pairs: set[tuple[str, str]] = set()
    for batch in selection.store.scan(["real", "subset"], "role = 'final' AND label = 1", selection.version):
        pairs.update(zip(batch.column("real").to_pylist(), batch.column("subset").to_pylist(), strict=True))
    subsets_of: dict[str, list[str]] = {}
    for real, subset in sorted(pairs):
        if selection.counts[subset, "final", split]:
            subsets_of.setdefault(real, []).append(subset)
    return subsets_of


def _plain(name: str) -> str:
    return name.replace("/", "-").replace(".", "-")


def _suffix(row: dict[str, Any]) -> str:
    return ENDINGS[row["format"]]


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


LAYOUTS: dict[str, Callable[[Selection, Path, Marked], Written]] = {
    "folders": folders,
    "webdataset": webdataset,
    "parquet": parquet,
    "imagefolder": imagefolder,
    "lance": lance_copy,
}

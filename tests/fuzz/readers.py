"""Every reader of files from outside, with small valid files to begin with."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save as save_tensors

from foreign.lists import read_pairs
from foreign.pictures import decode
from generators.checkpoints import convert, inspect
from ntf_model.comparing.score_files import read_score_table
from ntf_model.data.images import read_image
from ntf_model.data.shards import from_webdataset
from ntf_model.own_code import require_allowed
from ntf_model.runs import read_config
from pipelines.audit.container import read_container
from pipelines.catalogue.catalogue import Catalogue, _read_entries
from pipelines.catalogue.lock import read_lock
from pipelines.importing.importing import import_images
from pipelines.manifest.load import check_manifest
from pipelines.place import Place
from pipelines.store.pending import Notes

PIXELS = np.random.default_rng(1).integers(0, 256, (12, 10, 3), np.uint8)
STATE = {"w": torch.arange(6.0).reshape(2, 3), "n": {"lr": 1e-3, "names": ["a", ("b", 1)]}}
NOTE = {"key": "k", "title": "t", "fragment": {"files": [{"path": "a", "file_size_bytes": 3}]}, "written": 1, "rejected": {}, "short": 0}
MANIFEST = b"""dataset: a
size: 32
codec: {format: jpeg, quality: 90}
checkpoints: {mine: {file: x.pt, licence: CC0, options: {n: 1}}}
reals: {r: {package: faces, licence: CC0, count: 3}, f: {path: photos, licence: x, identities: i.csv}}
subsets:
  A: {count: 2, real: r, chain: [{sample: ddpm, checkpoint: ddpm-demo-32, steps: 3}]}
"""
REGISTERED = b"""mine: {file: x.pt, licence: CC0, generators: [ddpm], options: {n: 1}}
other: {file: y, licence: MIT, sha256: %s}
""" % (b"ab" * 32)
LOCKED = b"x.pt: {sha256: %s, source: hub, licence: CC0, fetched: '2026-11-27'}\n" % (b"ab" * 32)
RUN = b'{"detector": "ntf", "config": {"encoder": "small", "stage1": {"epochs": 1}}, "backbone": {"name": "small"}, "threshold": 0.5}'


@dataclass(frozen=True)
class Reader:
    """`name` of the file that is changed, the valid files, and what reads it: `run(file, empty folder)`."""

    name: str
    seeds: Callable[[], list[bytes]]
    run: Callable[[Path, Path], Any]


def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def pictures() -> list[bytes]:
    listed = [picture(form) for form in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")]
    others = [picture(form) for form in ("EPS", "DDS", "TGA", "PCX", "MPO")]
    exif = Image.Exif()
    exif[0x0112] = 6
    return [*listed, *others, picture("PNG", "P"), picture("TIFF", "I"), picture("TIFF", "F"), picture("JPEG", "CMYK", exif=exif)]


def saved(zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({**STATE, "m": torch.nn.Linear(2, 2)}, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def archives(kind: str) -> list[bytes]:
    members = {"a.png": picture("PNG"), "b.jpg": picture("JPEG"), "c/d.webp": picture("WEBP")}
    members |= {f"{key}.json": b'{"identity": "x"}' for key in ("a", "b", "c/d")}
    files = []
    for pack in (0, 8, 12) if kind == "zip" else ("", "gz", "bz2", "xz"):
        stream = io.BytesIO()
        if isinstance(pack, int):
            with zipfile.ZipFile(stream, "w", pack) as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
        else:
            with tarfile.open(fileobj=stream, mode=f"w:{pack}") as tar:
                for name, data in members.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        files.append(stream.getvalue())
    return files


def shard() -> bytes:
    """Two pictures with their JSON, as training reads them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for key, label in (("a", 0), ("b", 1)):
            for name, data in ((f"{key}.png", picture("PNG")), (f"{key}.json", json.dumps({"label": label, "subset": "s"}).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def tables(kind: str) -> list[bytes]:
    rows = pa.table({"image": pa.array([{"bytes": picture("PNG"), "path": "a"}] * 3), "identity": ["p", "q", "p"]})
    stream = io.BytesIO()
    if kind == "parquet":
        pq.write_table(rows, stream)
    else:
        with pa.ipc.new_stream(stream, rows.schema) as written:
            written.write_table(rows)
    return [stream.getvalue()]


def database() -> list[bytes]:
    import lmdb

    with tempfile.TemporaryDirectory() as place:
        with lmdb.open(place, map_size=2**20) as base, base.begin(write=True) as writing:
            for number in range(4):
                writing.put(b"%d" % number, picture("PNG") * (1 + 6 * (number % 2)))
        return [(Path(place) / "data.mdb").read_bytes()]


def _checkpoint(file: Path, folder: Path) -> None:
    json.dumps(inspect(file))
    convert(file, folder / "out.safetensors")


def _import(file: Path, folder: Path) -> None:
    import_images(file.parent if file.suffix in (".arrow", ".mdb") else file, folder / "out", "real", "CC0", "x")


def _notes(file: Path, folder: Path) -> None:
    notes = Notes(Place(str(file.parent)), Place(str(folder)))
    notes.leftovers()
    notes.read()


READERS = {
    "pickle": Reader("a.pkl", lambda: [pickle.dumps({"a": np.arange(6.0), "b": STATE["n"]}, p) for p in (0, 2, 4, 5)], _checkpoint),
    "torch-zip": Reader("a.pt", lambda: [saved(True)], _checkpoint),
    "torch-stream": Reader("a.pth", lambda: [saved(False)], _checkpoint),
    "safetensors": Reader("a.safetensors", lambda: [save_tensors({"x": torch.ones(2, 3)}, {"config": '{"a": [1]}'})], _checkpoint),
    "picture": Reader("a.png", pictures, lambda file, _: decode(file.read_bytes(), file.name)),
    "detector-picture": Reader("a.png", pictures, lambda file, _: read_image(file)),
    "container": Reader("a.png", pictures, lambda file, _: read_container(file.read_bytes(), file.name, ".png")),
    "zip": Reader("a.zip", lambda: archives("zip"), _import),
    "tar": Reader("a.tar", lambda: archives("tar"), _import),
    "parquet": Reader("a.parquet", lambda: tables("parquet"), _import),
    "arrow": Reader("a.arrow", lambda: tables("arrow"), _import),
    "lmdb": Reader("data.mdb", database, _import),
    "manifest": Reader("a.yaml", lambda: [MANIFEST], lambda file, _: check_manifest(file)),
    "notes": Reader("k.json", lambda: [json.dumps({**NOTE, "seconds": 1.5}).encode()], _notes),
    "registered": Reader("registered.yaml", lambda: [REGISTERED], lambda file, _: Catalogue.shipped().joined(_read_entries(file))),
    "lock": Reader("lock.yaml", lambda: [LOCKED], lambda file, _: read_lock(file.parent)),
    "list": Reader(
        "i.csv", lambda: [b"file,identity\na.png,x\nb.png,y\n", b"a.png 1\nb.png 2\n"], lambda file, _: read_pairs(file, "the list")
    ),
    "run": Reader("config.json", lambda: [RUN], lambda file, _: require_allowed(read_config(file.parent), file.parent)),
    "shards": Reader("a.tar", lambda: [shard()], lambda file, _: from_webdataset([file], [], [])),
    "scores": Reader("a.csv", lambda: [b"id,score\na,0.5\nb,1\n", b'"x",0.25\ny,1e-3\n'], lambda file, _: read_score_table(file, [])),
}

"""The images in what others pack them in: folders, zip and tar files, LMDB, Parquet and Arrow.

Nothing is unpacked to disk, nothing in it is executed, and every read has a bound. Names inside an archive are only labels: nothing opens
a path by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foreign.archives import tar_members, zip_members
from foreign.errors import InputError
from foreign.files import require_plain, unreadable
from pipelines.images import MAX_BYTES, SUFFIXES, read_bytes
from pipelines.importing.packed import PackedImage, too_long
from pipelines.importing.tables import read_tables

MAX_JSON = 2**20


def open_package(path: Path, column: str | None = None) -> tuple[str, Iterator[PackedImage]]:
    """What `path` is (folder, zip, lmdb, parquet, arrow, webdataset), and its images. InputError if it is none of them."""
    try:
        if path.is_dir():
            return _open_folder(path, column)
        require_plain(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    name = path.name.lower()
    if name.endswith(".parquet"):
        return "parquet", read_tables("parquet", [path], column)
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return "webdataset", webdataset([path])
    if name.endswith(".zip"):
        return "zip", zipped(path)
    raise InputError(
        f"{path} is not a package that images can be imported from", "Give a folder, a .zip, .tar or .parquet file, or an LMDB folder"
    )


def _open_folder(path: Path, column: str | None) -> tuple[str, Iterator[PackedImage]]:
    if (path / "data.mdb").exists():
        return "lmdb", read_tables("lmdb", [path], None)
    for suffix, kind in ((".parquet", "parquet"), (".arrow", "arrow")):
        if files := sorted(path.rglob(f"*{suffix}")):
            return kind, read_tables(kind, files, column)
    if files := sorted(path.rglob("*.tar")):
        return "webdataset", webdataset(files)
    return "folder", folder(path)


def folder(path: Path) -> Iterator[PackedImage]:
    """Image files at any depth. What is no plain file, and a link that leads out of the folder, is refused."""
    top = path.resolve()
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    for file in files:
        name = file.relative_to(path).as_posix()
        try:
            real = file.resolve(strict=True)
            if not real.is_relative_to(top):
                yield PackedImage(name, None, refusal="a link out of the folder")
            elif not real.is_dir():
                yield PackedImage(name, read_bytes(real))
        except InputError as error:
            yield PackedImage(name, None, refusal=error.message)
        except (OSError, RuntimeError) as error:  # links that lead nowhere, or in a circle
            yield PackedImage(name, None, refusal=unreadable(file, error if isinstance(error, OSError) else OSError(str(error))).message)


def zipped(path: Path) -> Iterator[PackedImage]:
    """The images of a zip file, read one by one."""
    for member in zip_members(path, _is_image, MAX_BYTES):
        yield PackedImage(member.name, member.data, refusal="" if member.data is not None else too_long(member.size))


def webdataset(files: list[Path]) -> Iterator[PackedImage]:
    """Tar files with `KEY.jpg` and, if there is one, `KEY.json` with an `identity`. Only tar itself is read: no pickle, no command."""
    for file in files:
        waiting: dict[str, PackedImage] = {}
        for member in tar_members(file, lambda name: _is_image(name) or name.lower().endswith(".json"), MAX_BYTES):
            key, suffix = _key(member.name)
            if f".{suffix.lower()}" in SUFFIXES:
                yield from waiting.values()
                refusal = "" if member.data is not None else too_long(member.size)
                waiting = {key: PackedImage(f"{file.name}/{member.name}", member.data, refusal=refusal)}
            elif suffix == "json" and key in waiting and member.data is not None and member.size <= MAX_JSON:
                image = waiting.pop(key)
                yield PackedImage(image.name, image.data, _identity_in(member.data), image.refusal)
        yield from waiting.values()


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _key(name: str) -> tuple[str, str]:
    """Key and suffix by WebDataset's rule: the key ends at the first dot of the last part of the name."""
    head, slash, tail = name.rpartition("/")
    stem, _, suffix = tail.partition(".")
    return f"{head}{slash}{stem}", suffix


def _identity_in(data: bytes) -> str | None:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return None
    identity = facts.get("identity") if isinstance(facts, dict) else None
    return str(identity) if isinstance(identity, (str, int)) else None

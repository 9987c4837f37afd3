"""The images in what others pack them in: folders, zip and tar files, LMDB, Parquet and Arrow.

Nothing is unpacked to disk, nothing in it is executed, and every read has a bound. Names inside an archive are only labels: nothing opens
a path by them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreign.archives import TAR_ENDINGS, tar_members, zip_members
from foreign.errors import InputError
from foreign.files import require_plain, unreadable
from foreign.folders import list_pictures, why_left_out
from foreign.lists import plain
from foreign.objects import read_object
from foreign.pictures import SUFFIXES
from foreign.text import reason, visible
from pipelines.images import MAX_BYTES, read_bytes
from pipelines.importing.packed import LeftOut, PackedImage, identity_of, too_long
from pipelines.importing.tables import read_tables

MAX_JSON = 2**20
PACKAGES = (*TAR_ENDINGS, ".parquet", ".arrow", ".zip")

Packed = Iterator[PackedImage | LeftOut]


def open_package(path: Path, column: str | None = None) -> tuple[str, Packed]:
    """What `path` is (folder, zip, lmdb, parquet, arrow, webdataset), and its images, with what is left out between them.

    InputError if it is none of them, or a folder that holds more than one.
    """
    try:
        if path.is_dir():
            return _open_folder(path, column)
        require_plain(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    match _kind_of(path):
        case ".parquet":
            return "parquet", read_tables("parquet", [path], column)
        case ".tar":
            return "webdataset", webdataset([path], column)
        case ".zip":
            return "zip", zipped(path)
    raise InputError(
        f"{path} is not a package that images can be imported from", "Give a folder, a .zip, .tar or .parquet file, or an LMDB folder"
    )


def _open_folder(path: Path, column: str | None) -> tuple[str, Packed]:
    if (path / "data.mdb").exists():
        return "lmdb", read_tables("lmdb", [path], None)
    named = [Path(at) / name for at, _, names in os.walk(path) for name in names if name.lower().endswith(PACKAGES)]
    packages = sorted(file for file in named if _kind_of(file) and not why_left_out(f"{file.relative_to(path)}.png"))
    kinds = Counter(_kind_of(file) for file in packages)
    pictures = len(list_pictures(path).files) if kinds else 0
    if len(kinds) + bool(pictures) > 1:
        mixed = [f"{count:,} {kind}" for kind, count in kinds.items()] + [f"{pictures:,} picture{'s' * (pictures > 1)}"] * bool(pictures)
        raise InputError(f"{path} holds {' beside '.join(mixed)}", "Give a folder with one of these")
    match next(iter(kinds), ""):
        case ".zip":
            raise InputError(f"{path} holds .zip files and no pictures", f"Give one of them, such as {packages[0]}")
        case ".tar":
            return "webdataset", webdataset(packages, column)
        case "":
            return "folder", folder(path)
        case kind:
            return kind[1:], read_tables(kind[1:], packages, column)


def _kind_of(file: Path) -> str:
    """ ".parquet", ".arrow", ".zip" or ".tar" for a package; empty for any other file."""
    if file.name.lower().endswith(TAR_ENDINGS):
        return ".tar"
    return file.suffix.lower() if file.suffix.lower() in (".parquet", ".arrow", ".zip") else ""


def folder(path: Path) -> Packed:
    """Image files at any depth. A link that leads out of the folder is refused, and so is a file that cannot be read."""
    top = path.resolve()
    listing = list_pictures(path)
    for file in listing.files:
        name = file.relative_to(path).as_posix()
        try:
            # Links to folders are not listed, so only the file itself can lead out.
            if file.is_symlink() and not file.resolve(strict=True).is_relative_to(top):
                yield PackedImage(name, None, refusal="a link out of the folder")
            else:
                yield PackedImage(name, read_bytes(file))
        except InputError as error:
            yield PackedImage(name, None, refusal=error.message)
        except (OSError, RuntimeError) as error:  # a file that went away, or a circle of links
            yield PackedImage(name, None, refusal=unreadable(file, error if isinstance(error, OSError) else OSError(str(error))).message)
    yield from (LeftOut(kind, count) for kind, count in listing.left_out.items())


def zipped(path: Path) -> Packed:
    """The images of a zip file, read one by one. InputError for a name that is there twice."""
    left_out: Counter[str] = Counter()
    seen: set[str] = set()

    def wanted(name: str) -> bool:
        why = why_left_out(name)
        if not why and plain(name) in seen:
            raise InputError(f"{visible(path)} has {visible(name)} twice", "Pack it again with one of them")
        seen.add(plain(name))
        left_out.update([why] if why else [])
        return not why

    for member in zip_members(path, wanted, MAX_BYTES):
        yield PackedImage(member.name, member.data, refusal="" if member.data is not None else too_long(member.size))
    yield from (LeftOut(kind, count) for kind, count in left_out.items())


def webdataset(files: list[Path], column: str | None = None) -> Packed:
    """The pictures of tar files, whose members may have any order: `KEY.jpg`, with the `identity` of `KEY.json` if there is one.

    `KEY.txt`, or `caption` in the JSON, is its caption, as img2dataset writes them.

    A key has one picture: the one whose suffix is `column`, or else the only one with a plain suffix. `KEY.mask.png` beside `KEY.png` is
    left out. InputError for a key with two pictures, a name that is there twice, and JSON that cannot be read.
    """
    for file in files:
        index = _index(file, column)
        for member in tar_members(file, lambda name, index=index: plain(name) in index.pictures, MAX_BYTES):  # type: ignore[misc]
            identity = index.identities.get(index.pictures[plain(member.name)])
            refusal = "" if member.data is not None else too_long(member.size)
            caption = index.captions.get(index.pictures[plain(member.name)])
            yield PackedImage(f"{file.name}/{member.name}", member.data, identity, refusal, caption)
        yield from (LeftOut(kind, count) for kind, count in index.left_out.items())


@dataclass(frozen=True)
class _Index:
    """Of a tar file: the pictures to take with their keys, whom each key shows, its caption, and what is left out."""

    pictures: dict[str, str] = field(default_factory=dict)
    identities: dict[str, str | None] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def _index(file: Path, column: str | None) -> _Index:
    """What a tar file holds. Its JSON files may stand before or after their pictures, so all are read before any picture is."""
    index = _Index()
    fields: dict[str, dict[str, str]] = {}  # by key and suffix

    def wanted(name: str) -> bool:
        why, (key, suffix) = why_left_out(name), _key(plain(name))
        if why not in ("", ".json", ".txt"):
            index.left_out[why] += 1
            return False
        if suffix in fields.setdefault(key, {}):
            raise InputError(f"{visible(file)} has {visible(name)} twice", "Pack it again with one of them")
        fields[key][suffix] = plain(name)
        return suffix in ("json", "txt")

    for member in tar_members(file, wanted, MAX_JSON, odd=lambda _: index.left_out.update(["link or device"])):
        where = f"{visible(file)}, {visible(member.name)}"
        if member.data is None:
            raise InputError(f"{where} has {member.size:,} bytes", f"At most {MAX_JSON:,} are read")
        key, suffix = _key(plain(member.name))
        if suffix == "txt":  # img2dataset's caption, which its JSON has too
            index.captions.setdefault(key, member.data.decode("utf-8", "replace"))
            continue
        facts = _facts_in(member.data, where)
        index.identities[key] = identity_of(facts.get("identity"), where)
        if isinstance(facts.get("caption"), str):
            index.captions[key] = facts["caption"]
    for key, named in fields.items():
        taken = _taken(named, column)
        if len(taken) > 1:
            several = ", ".join(f".{visible(suffix)}" for suffix in taken)
            raise InputError(
                f"{visible(file)} has {len(taken)} pictures of {visible(key)}: {several}",
                f"Name the one to take, such as --column {visible(taken[0])}, or unpack it and import the folder",
            )
        index.pictures.update({named[suffix]: key for suffix in taken})
        index.left_out.update(f".{suffix}" for suffix in named if suffix not in (*taken, "json", "txt"))
        index.left_out.update(f".{suffix} without a picture" for suffix in named if not taken and suffix in ("json", "txt"))
    return index


def _taken(named: dict[str, str], column: str | None) -> list[str]:
    """The suffixes of a key's pictures that are to be taken: one, if the key is right."""
    if column is not None:
        return [suffix for suffix in named if suffix == column.lower().removeprefix(".")]
    plain_ones = [suffix for suffix in named if f".{suffix}" in SUFFIXES]
    return plain_ones or [suffix for suffix in named if not suffix.endswith(("json", "txt"))]


def _key(name: str) -> tuple[str, str]:
    """Key and suffix by WebDataset's rule: the key ends at the first dot of the last part of the name."""
    head, slash, tail = name.rpartition("/")
    stem, _, suffix = tail.partition(".")
    return f"{head}{slash}{stem}", suffix.lower()


def _facts_in(data: bytes, where: str) -> dict[str, Any]:
    try:
        facts = read_object(data)
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({reason(error)})", "Write it again, or leave it out") from None
    return facts if isinstance(facts, dict) else {}

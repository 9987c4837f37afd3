"""Images from a package of others into a folder that a manifest or an evaluation takes."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from foreign.errors import InputError
from foreign.folders import said
from foreign.lists import plain, read_pairs
from foreign.pictures import decoded
from foreign.progress import Progress, silent
from foreign.text import as_csv_cell, visible
from generators.files import whole_folder, write_json, write_text
from pipelines.images import encode, encode_uncompressed
from pipelines.importing.budget import Budget, length_of
from pipelines.importing.celebahq import CelebaHQ
from pipelines.importing.packages import PACKAGES, Packed, open_package
from pipelines.importing.packed import LeftOut, PackedImage
from pipelines.manifest.schema import Codec

Label = Literal["real", "fake"]
Who = Callable[[str], str | None]  # the name of an image to whom it shows
PNG = Codec(format="png")
READ_AHEAD = 64  # images
READ_AHEAD_BYTES = 64 * 2**20  # of their encoded bytes
THREADS = 4
PER_FOLDER = 1000


@dataclass(frozen=True)
class Record:
    """An image that was brought in. `sha256` is of the original."""

    file: str
    original: str
    sha256: str
    identity: str | None
    caption: str | None


@dataclass(frozen=True)
class Imported:
    """Where the images are, the CSV that says whom they show (if that is known), how many there are, and the names that were refused."""

    folder: Path
    identities: Path | None
    images: int
    refused: dict[str, str]
    left_out: dict[str, int]  # files that are no pictures by their names, by kind
    unused: int = 0  # lines of the identity list that name no image
    captions: Path | None = None  # one on each line, where the package has them


def import_images(
    source: Path,
    output: Path,
    label: Label,
    licence: str,
    origin: str,
    identities: Path | None = None,
    limit: int | None = None,
    column: str | None = None,
    celebahq: Path | None = None,
    compress: bool = False,
    on_progress: Progress = silent,
) -> Imported:
    """Brings images into `output/LABEL`, as PNG: turned upright by EXIF, with no metadata left, under names of our own.

    `output/LABEL` serves as `path` of a manifest's real source, and `output` with both labels as a folder to evaluate on. Beside it lie
    `LABEL.csv` (file, original name, sha256 of the original) and `LABEL.json` (licence, origin, what was refused and why), and
    `LABEL-identities.csv` where identities are known: from the CSV `identities` (`name,identity`), or from the package. Captions of the
    package become `LABEL-captions.txt`, which a manifest's `prompts` takes. With `celebahq`, CelebA-HQ's mapping to CelebA, `identities` is
    CelebA's own list.

    The PNGs are uncompressed, 3 bytes a pixel, because compressing them takes several times as long as all else; `compress` does it.

    Raises InputError if the package cannot be read, holds no image that can, or the folder is there already.
    """
    if not licence.strip() or not origin.strip():
        raise InputError("an import needs its licence and where it is from", "Give --licence and --origin")
    target = output / label
    if target.exists():
        raise InputError(f"{target} is there already", "Name another folder")
    kind, packed = open_package(source, column)
    if celebahq is not None and identities is None:
        raise InputError("the mapping of CelebA-HQ needs CelebA's list of people", "Give identity_CelebA.txt as --identities")
    people: dict[str, str] = {}
    who: Who = people.get
    if celebahq is not None and identities is not None:
        who = CelebaHQ(celebahq, identities).of
    elif identities is not None:
        people = read_pairs(identities, "the identity list")
        who = people.get
    try:
        with whole_folder(target) as folder:
            length = length_of(source)
            counted = _counted(packed, limit, length, on_progress)
            brought = _bring_in(counted, Budget(source, length), limit, folder, who, compress)
            if not brought.rows:
                raise _nothing_in(source, brought)
            named = _write_records(output, label, source, identities, brought)
            facts = {"kind": kind, "licence": licence, "origin": origin, "images": len(brought.rows)}
            write_json(output / f"{label}.json", {**facts, "refused": brought.refused, "left_out": brought.left_out}, indent=2)
    except OSError as error:
        raise InputError.unwritable(f"bring {source} into {output}", error) from None
    unused = people.keys() - {plain(row.original) for row in brought.rows}
    captions = output / f"{label}-captions.txt"
    return Imported(
        target,
        named,
        len(brought.rows),
        brought.refused,
        brought.left_out,
        len(unused),
        captions if any(row.caption for row in brought.rows) else None,
    )


@dataclass(frozen=True)
class _Brought:
    """The record of each image, by name why others were refused, and what else was left out, by kind."""

    rows: list[Record]
    refused: dict[str, str]
    left_out: dict[str, int]


def _nothing_in(source: Path, brought: _Brought) -> InputError:
    name, problem = next(iter(brought.refused.items()), ("nothing in it", said(brought.left_out) or "no file of a known image format"))
    archives = [kind for kind in brought.left_out if kind in PACKAGES]
    fix = f"Unpack it, and import one of the {archives[0]} files in it" if archives else "See the formats in the documentation"
    return InputError(f"{source} has no image that can be read ({name}: {problem})", fix)


def _counted(packed: Packed, limit: int | None, length: int, on_progress: Progress) -> Packed:
    """`packed`, with `on_progress` told how many images of `limit` were taken or, without one, how many KiB of the package's `length`."""
    images = taken = 0
    for item in packed:
        if isinstance(item, PackedImage):
            images += 1
            taken += len(item.data or b"")
        if limit is not None:
            on_progress(min(images, limit), limit, "images")
        else:
            on_progress(min(taken, length) // 1024, length // 1024, f"KiB of the package, {images:,} images")
        yield item


def _bring_in(packed: Packed, budget: Budget, limit: int | None, folder: Path, who: Who, compress: bool) -> _Brought:
    """Writes at most `limit` images into `folder`."""
    rows: list[Record] = []
    refused: dict[str, str] = {}
    left_out: Counter[str] = Counter()

    def images() -> Iterator[PackedImage]:
        for item in packed:
            if isinstance(item, LeftOut):
                left_out[item.kind] += item.count
            else:
                yield item

    for image, written, answer in _converted(islice(images(), limit), budget, folder, compress):
        try:
            digest = answer.result()
        except InputError as error:
            refused[image.name] = str(error)
            continue
        file = _name_of(len(rows))
        if written != file:  # an image before it was refused
            os.rename(folder / written, folder / file)
        rows.append(Record(file, image.name, digest, who(plain(image.name)) or image.identity, image.caption))
    for left in folder.iterdir():
        if not any(left.iterdir()):
            left.rmdir()
    return _Brought(rows, refused, dict(sorted(left_out.items())))


def _name_of(number: int) -> str:
    """The file of an image: in folders of a thousand."""
    return f"{number // PER_FOLDER:04d}/{number:08d}.png"


def _converted(
    packed: Iterator[PackedImage], budget: Budget, folder: Path, compress: bool
) -> Iterator[tuple[PackedImage, str, Future[str]]]:
    """Each image without its bytes, the file in `folder` that a thread writes its PNG to, and the answer of `_convert`. The file has the
    name that is right if no image before it is refused.

    A bounded number of images and of their bytes is ahead. The pixels and the PNGs are in memory only while a thread works on them.
    """
    waiting: deque[tuple[PackedImage, str, Future[str]]] = deque()
    lengths: deque[int] = deque()
    with ThreadPoolExecutor(THREADS) as threads:
        for number, image in enumerate(packed):
            budget.spend(image)
            if number % PER_FOLDER == 0:
                (folder / _name_of(number)).parent.mkdir()
            file = _name_of(number)
            waiting.append((replace(image, data=None), file, threads.submit(_convert, image, folder / file, compress)))
            lengths.append(len(image.data or b""))
            while len(waiting) >= READ_AHEAD or (waiting and sum(lengths) >= READ_AHEAD_BYTES):
                lengths.popleft()
                yield waiting.popleft()
        yield from waiting


def _convert(image: PackedImage, file: Path, compress: bool) -> str:
    """Writes an image to `file` as PNG. Returns the sha256 of the original; raises InputError if it is refused."""
    if image.data is None:
        raise InputError(image.refusal)
    with decoded(image.data, image.name) as picture:
        file.write_bytes(encode(picture.pixels, PNG) if compress else encode_uncompressed(picture.pixels))
    return hashlib.sha256(image.data).hexdigest()


def _write_records(output: Path, label: Label, source: Path, identities: Path | None, brought: _Brought) -> Path | None:
    """Writes `LABEL.csv`, and the list of identities where they are known. Returns that list's path.

    InputError if some images have an identity and others do not: without a list all would count as people of their own.
    """
    unknown = [row.original for row in brought.rows if row.identity is None]
    known = len(brought.rows) - len(unknown)
    if unknown and identities:
        raise InputError(f"{identities} has no identity for {visible(unknown[0])}", "List every image as `name,identity`")
    if unknown and known:
        raise InputError(
            f"{source} has an identity for {known:,} images and none for {len(unknown):,}, such as {visible(unknown[0])}",
            "List all of them with --identities",
        )
    originals = [(row.file, _printable(row.original), row.sha256) for row in brought.rows]
    captions = [" ".join(_printable(row.caption, " ").split()) for row in brought.rows if row.caption]
    if any(captions):
        write_text(output / f"{label}-captions.txt", "".join(f"{caption}\n" for caption in captions if caption))
    write_text(output / f"{label}.csv", _as_csv([("file", "original", "sha256"), *originals]))
    if unknown:
        return None
    named = output / f"{label}-identities.csv"
    write_text(named, _as_csv([(row.file, _printable(row.identity or "")) for row in brought.rows]))
    return named


def _as_csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([as_csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def _printable(name: str, instead: str = "?") -> str:
    return "".join(letter if letter.isprintable() else instead for letter in name)

"""Images from a package of others into a folder that a manifest or an evaluation takes."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from foreign.errors import InputError
from foreign.pictures import opened, room_for
from generators.files import whole_folder, write_json, write_text
from pipelines.images import decode, encode
from pipelines.importing.packages import open_package
from pipelines.importing.packed import PackedImage
from pipelines.manifest.schema import Codec

Label = Literal["real", "fake"]
PNG = Codec(format="png")
BATCH_IMAGES = 64
BATCH_BYTES = 64 * 2**20  # of encoded images that are read ahead
THREADS = 4
PER_FOLDER = 1000

Record = tuple[str, str, str, str | None]  # file, original name, sha256 of the original, identity


@dataclass(frozen=True)
class Imported:
    """Where the images are, the CSV that says whom they show (if that is known), how many there are, and the names that were refused."""

    folder: Path
    identities: Path | None
    images: int
    refused: dict[str, str]


def import_images(
    source: Path,
    output: Path,
    label: Label,
    licence: str,
    origin: str,
    identities: Path | None = None,
    limit: int | None = None,
    column: str | None = None,
) -> Imported:
    """Brings images into `output/LABEL`, as PNG: turned upright by EXIF, with no metadata left, under names of our own.

    `output/LABEL` serves as `path` of a manifest's real source, and `output` with both labels as a folder to evaluate on. Beside it lie
    `LABEL.csv` (file, original name, sha256 of the original) and `LABEL.json` (licence, origin, what was refused and why), and
    `LABEL-identities.csv` where identities are known: from the CSV `identities` (`name,identity`), or from the package.

    Raises InputError if the package cannot be read, holds no image that can, or the folder is there already.
    """
    if not licence.strip() or not origin.strip():
        raise InputError("an import needs its licence and where it is from", "Give --licence and --origin")
    target = output / label
    if target.exists():
        raise InputError(f"{target} is there already", "Name another folder")
    kind, packed = open_package(source, column)
    people = _people(identities)
    try:
        with whole_folder(target) as folder:
            rows, refused = _bring_in(islice(packed, limit), folder, people)
            if not rows:
                name, problem = next(iter(refused.items()), ("nothing in it", "no file of a known image format"))
                raise InputError(f"{source} has no image that can be read ({name}: {problem})", "See the formats in the documentation")
            unknown = [name for _, name, _, identity in rows if identity is None]
            if people and unknown:
                raise InputError(f"{identities} has no identity for {unknown[0]}", "List every image as `name,identity`")
            named = _write_records(output, label, rows)
            facts = {"kind": kind, "licence": licence, "origin": origin, "images": len(rows), "refused": refused}
            write_json(output / f"{label}.json", facts, indent=2)
    except OSError as error:
        raise InputError(f"cannot bring {source} into {output}: {error.strerror or error}", "Check the folder and the free space") from None
    return Imported(target, named, len(rows), refused)


def _bring_in(packed: Iterator[PackedImage], folder: Path, people: Mapping[str, str]) -> tuple[list[Record], dict[str, str]]:
    """Writes the images into `folder`. Returns the record of each, and by name why the others were refused."""
    rows: list[Record] = []
    refused: dict[str, str] = {}
    for image, problem, data in _decoded(packed):
        if problem:
            refused[image.name] = problem
            continue
        file = f"{len(rows) // PER_FOLDER:04d}/{len(rows):08d}.png"
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(data)
        digest = hashlib.sha256(image.data or b"").hexdigest()
        rows.append((file, image.name, digest, people.get(image.name, image.identity)))
    return rows, refused


def _decoded(packed: Iterator[PackedImage]) -> Iterator[tuple[PackedImage, str, bytes]]:
    """Each image with why it is refused, or with its PNG bytes. Decoded in threads, a bounded number ahead."""
    with ThreadPoolExecutor(THREADS) as threads:
        while batch := _batch(packed):
            yield from threads.map(_as_png, batch)


def _batch(packed: Iterator[PackedImage]) -> list[PackedImage]:
    """The next images, bounded by their number and by their bytes."""
    batch, length = [], 0
    for image in packed:
        batch.append(image)
        length += len(image.data or b"")
        if len(batch) == BATCH_IMAGES or length >= BATCH_BYTES:
            break
    return batch


def _as_png(image: PackedImage) -> tuple[PackedImage, str, bytes]:
    if image.data is None:
        return image, image.refusal, b""
    try:
        with opened(image.data, image.name) as header:
            pixels = header.width * header.height
        with room_for(pixels):
            return image, "", encode(decode(image.data, image.name), PNG)
    except InputError as error:
        return image, str(error), b""


def _people(identities: Path | None) -> dict[str, str]:
    if identities is None:
        return {}
    try:
        rows = list(csv.reader(identities.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise InputError(f"cannot read the identity list {identities}: {error.strerror}", "Check --identities") from None
    return {row[0]: row[1] for row in rows if len(row) >= 2}


def _write_records(output: Path, label: Label, rows: list[Record]) -> Path | None:
    """Writes `LABEL.csv`, and the list of identities where all are known. Returns that list's path."""
    originals = [(file, _printable(name), digest) for file, name, digest, _ in rows]
    write_text(output / f"{label}.csv", _as_csv([("file", "original", "sha256"), *originals]))
    if any(identity is None for *_, identity in rows):
        return None
    named = output / f"{label}-identities.csv"
    write_text(named, _as_csv([(file, _printable(identity or "")) for file, _, _, identity in rows]))
    return named


def _as_csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)

"""Images from a package of others into a folder that a manifest or an evaluation takes."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from generators.errors import InputError
from pipelines.images import decode, encode
from pipelines.importing.readers import Found, find_reader
from pipelines.manifest.schema import Codec

Label = Literal["real", "fake"]
PNG = Codec(format="png")
BATCH_IMAGES = 64
THREADS = 4
PER_FOLDER = 1000


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
    kind, found = find_reader(source, column)
    people = _people(identities)
    partial = output / f".{label}.partial"
    refused: dict[str, str] = {}
    rows: list[tuple[str, str, str, str | None]] = []
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for image, problem, data in _decoded(islice(found, limit)):
            if problem:
                refused[image.name] = problem
                continue
            file = f"{len(rows) // PER_FOLDER:04d}/{len(rows):08d}.png"
            (partial / file).parent.mkdir(exist_ok=True)
            (partial / file).write_bytes(data)
            digest = hashlib.sha256(image.data or b"").hexdigest()
            rows.append((file, image.name, digest, people.get(image.name, image.identity)))
        if not rows:
            first = next(iter(refused.items()), ("nothing in it", "no file of a known image format"))
            raise InputError(f"{source} has no image that can be read ({first[0]}: {first[1]})", "See the formats in the documentation")
        unknown = [name for _, name, _, identity in rows if identity is None]
        if people and unknown:
            raise InputError(f"{identities} has no identity for {unknown[0]}", "List every image as `name,identity`")
        named = _write_records(output, label, rows)
        facts = {"kind": kind, "licence": licence, "origin": origin, "images": len(rows), "refused": refused}
        (output / f"{label}.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
        partial.rename(target)
    except OSError as error:
        raise InputError(f"cannot bring {source} into {output}: {error.strerror or error}", "Check the folder and the free space") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Imported(target, named, len(rows), refused)


def _decoded(found: Iterator[Found]) -> Iterator[tuple[Found, str, bytes]]:
    """Each image with why it is refused, or with its PNG bytes. Decoded in threads, a bounded number ahead."""
    with ThreadPoolExecutor(THREADS) as threads:
        while batch := list(islice(found, BATCH_IMAGES)):
            yield from threads.map(_as_png, batch)


def _as_png(image: Found) -> tuple[Found, str, bytes]:
    if image.data is None:
        return image, image.refusal, b""
    try:
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


def _write_records(output: Path, label: Label, rows: list[tuple[str, str, str, str | None]]) -> Path | None:
    with (output / f"{label}.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "original", "sha256"])
        writer.writerows((file, _printable(name), digest) for file, name, digest, _ in rows)
    if any(identity is None for *_, identity in rows):
        return None
    named = output / f"{label}-identities.csv"
    with named.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows((file, _printable(identity or "")) for file, _, _, identity in rows)
    return named


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)

"""One export: a layout of a selection, with an index of its rows, Croissant metadata, a datasheet and a list of hashes. It appears whole or
not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from foreign.progress import Progress, counting, silent
from generators.errors import InputError
from generators.files import whole_folder
from pipelines.export import card, croissant, datasheet
from pipelines.export.facts import Facts, Lineage, require_covered
from pipelines.export.layouts import LAYOUTS, Marked
from pipelines.export.licences import Use, licences_of, require_allowed
from pipelines.export.provenance import with_xmp
from pipelines.export.selection import Selection
from pipelines.manifest.publication import Publication
from pipelines.manifest.schema import Manifest
from pipelines.manifest.splits import Split
from pipelines.store import Store, Version

Form = Literal["folders", "webdataset", "parquet", "imagefolder", "lance"]
FORMS: tuple[Form, ...] = get_args(Form)
INDEX, HASHES = "rows.jsonl", "SHA256SUMS"
FOR_THE_HUB: tuple[Form, ...] = ("parquet", "imagefolder", "webdataset")  # those with a card


@dataclass(frozen=True)
class Export:
    """What to take (a SQL condition, one split or all; the clean images, or those of a delivery), in which form, for which use, and
    whether the provenance is written into files. `publication` replaces the block `publish` of the manifest that the version was built
    from, and `repository` is the name on the Hub of an export that goes there."""

    form: Form
    where: str | None = None
    split: Split | None = None
    use: Use = "research"
    provenance: bool = False
    delivery: str = ""
    publication: Publication | None = None
    repository: str = ""


@dataclass(frozen=True)
class Exported:
    """The folder of an export, how many images it has, and the licences that it is under."""

    folder: Path
    images: int
    licences: dict[str, str]


@dataclass(frozen=True)
class Allowed:
    """What an export takes, with its licences and what its publisher states."""

    version: Version
    selection: Selection
    licences: dict[str, str]
    publication: Publication


def export(store: Store, output: Path, wanted: Export, version: int | str | None = None, on_progress: Progress = silent) -> Exported:
    """Writes `output`, which must not exist or be empty. `rows.jsonl` lists every image with all that is known of it and its file.

    Raises InputError if a licence forbids the use, the publisher states a licence that a part does not allow, nothing is selected, or the
    folder cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} is there already", "Name a new folder")
    if wanted.provenance and wanted.form == "lance":
        raise InputError("a Lance export keeps the store's own bytes", "Export image files with --to folders for --provenance")
    allowed = require_licences(store, wanted, version)
    try:
        with whole_folder(output) as folder:
            _write(folder, store, allowed, wanted, on_progress)
    except OSError as error:
        raise InputError.unwritable(f"write the export {output}", error) from None
    return Exported(output, len(allowed.selection), allowed.licences)


def require_licences(store: Store, wanted: Export, version: int | str | None = None) -> Allowed:
    """What an export would take, once its licences allow the use. Nothing is written.

    Raises InputError if a licence forbids the use, the publisher states a licence that a part does not allow, or nothing is selected.
    """
    taken = store.version(version)
    selection = Selection.of(store, taken.number, wanted.where, wanted.split, wanted.delivery)
    licences = licences_of(taken, selection.subsets)
    require_allowed(licences, wanted.use)
    stated = wanted.publication or Manifest.model_validate(taken.manifest).publish
    if wanted.use != "private":
        require_covered(stated, licences)
    return Allowed(taken, selection, licences, stated)


def _write(folder: Path, store: Store, allowed: Allowed, wanted: Export, on_progress: Progress) -> None:
    lineage, samples, version = Lineage(), card.Samples(), allowed.version
    _write_index(allowed.selection, folder, wanted, _marking(wanted, version, samples), lineage, on_progress)
    facts = Facts.of(store, version, allowed.selection, allowed.licences, wanted.form, allowed.publication, wanted.repository, lineage)
    (folder / "DATASHEET.md").write_text(datasheet.render(facts), encoding="utf-8")
    (folder / "croissant.json").write_text(json.dumps(croissant.metadata(facts, _digest(folder / INDEX)), indent=2), encoding="utf-8")
    if wanted.form in FOR_THE_HUB:
        (folder / card.PICTURE).write_bytes(samples.picture(facts))
        (folder / "README.md").write_text(card.render_card(facts), encoding="utf-8")
    _write_hashes(folder)


def _marking(wanted: Export, version: Version, samples: card.Samples) -> Marked:
    """What becomes of every image file: some are kept for the card's picture, and with `provenance` each gets its XMP."""
    known = {name: real.source_type for name, real in Manifest.model_validate(version.manifest).reals.items()}

    def marked(image: bytes, row: dict[str, Any]) -> bytes:
        samples.add(image, row)
        return with_xmp(image, row, known) if wanted.provenance else image

    return marked


def _write_hashes(folder: Path) -> None:
    """The sha256 of every file but the list itself, in the form that `sha256sum -c` reads."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    text = "".join(f"{_digest(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)
    (folder / HASHES).write_text(text, encoding="utf-8")


def _write_index(selection: Selection, folder: Path, wanted: Export, marked: Marked, lineage: Lineage, on_progress: Progress) -> None:
    plain, files = folder / f"{INDEX}.plain", dict[str, str]()
    with plain.open("w", encoding="utf-8") as listing:
        written = LAYOUTS[wanted.form](selection, folder, marked)
        for row, file in counting(written, len(selection), "images", on_progress):
            files[row["id"]] = file
            lineage.add(row)
            listing.write(json.dumps({"file": file, **row}, sort_keys=True) + "\n")
    # A second time, now that the file of every partner is known: the image that a fake was made of directly, if it is exported too.
    with plain.open(encoding="utf-8") as lines, (folder / INDEX).open("w", encoding="utf-8") as listing:
        for line in lines:
            row = json.loads(line)
            partner = row["target_id"] if row["target_id"] in files else None
            pair = {"partner": partner, "partner_file": files[partner]} if partner else {}
            listing.write(json.dumps({**row, **pair}, sort_keys=True) + "\n")
    plain.unlink()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""One export: a layout of a selection, with an index of its rows, Croissant metadata and a datasheet. It appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from foreign.progress import Progress, counting, silent
from generators.errors import InputError
from generators.files import whole_folder
from pipelines.export import croissant, datasheet
from pipelines.export.layouts import LAYOUTS
from pipelines.export.licences import Use, licences_of, require_allowed
from pipelines.export.provenance import with_xmp
from pipelines.export.selection import Selection
from pipelines.manifest.splits import Split
from pipelines.store import Store, Version

Form = Literal["folders", "webdataset", "parquet", "imagefolder", "lance"]
FORMS: tuple[Form, ...] = get_args(Form)
INDEX = "rows.jsonl"


@dataclass(frozen=True)
class Export:
    """What to take (a SQL condition, one split or all; the clean images, or those of a delivery), in which form, for which use, and
    whether the provenance is written into files."""

    form: Form
    where: str | None = None
    split: Split | None = None
    use: Use = "research"
    provenance: bool = False
    delivery: str = ""


@dataclass(frozen=True)
class Exported:
    """The folder of an export, how many images it has, and the licences that it is under."""

    folder: Path
    images: int
    licences: dict[str, str]


def export(store: Store, output: Path, wanted: Export, version: int | str | None = None, on_progress: Progress = silent) -> Exported:
    """Writes `output`, which must not exist or be empty. `rows.jsonl` lists every image with all that is known of it and its file.

    Raises InputError if a licence forbids the use, nothing is selected, or the folder cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} is there already", "Name a new folder")
    if wanted.provenance and wanted.form == "lance":
        raise InputError("a Lance export keeps the store's own bytes", "Export image files with --to folders for --provenance")
    taken = store.version(version)
    selection = Selection.of(store, taken.number, wanted.where, wanted.split, wanted.delivery)
    licences = licences_of(taken, selection.subsets)
    require_allowed(licences, wanted.use)
    try:
        with whole_folder(output) as folder:
            _write(folder, store, taken, selection, wanted, licences, on_progress)
    except OSError as error:
        raise InputError(f"cannot write the export {output}: {error.strerror or error}", "Check the folder and the free space") from None
    return Exported(output, len(selection), licences)


def _write(
    folder: Path, store: Store, version: Version, selection: Selection, wanted: Export, licences: dict[str, str], on_progress: Progress
) -> None:
    _write_index(selection, folder, wanted, on_progress)
    facts = datasheet.Facts.of(store, version, selection, licences, wanted.form)
    (folder / "DATASHEET.md").write_text(datasheet.render(facts), encoding="utf-8")
    (folder / "croissant.json").write_text(json.dumps(croissant.metadata(facts, _digest(folder / INDEX)), indent=2), encoding="utf-8")
    if wanted.form in ("parquet", "imagefolder"):
        (folder / "README.md").write_text(datasheet.render_card(facts), encoding="utf-8")


def _write_index(selection: Selection, folder: Path, wanted: Export, on_progress: Progress) -> None:
    def marked(image: bytes, row: dict[str, Any]) -> bytes:
        return with_xmp(image, row) if wanted.provenance else image

    plain, files = folder / f"{INDEX}.plain", dict[str, str]()
    with plain.open("w", encoding="utf-8") as listing:
        written = LAYOUTS[wanted.form](selection, folder, marked)
        for row, file in counting(written, len(selection), "images", on_progress):
            files[row["id"]] = file
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

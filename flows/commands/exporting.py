"""Taking a dataset elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import StoreOption, VersionOption
from generators.errors import InputError
from pipelines.export import FORMS, Export
from pipelines.export import export as export_version
from pipelines.export.licences import USES
from pipelines.manifest.splits import SPLITS
from pipelines.store import Store


def add_to(app: typer.Typer) -> None:
    examples = "`ntf export demo out/ --to webdataset` · `ntf export demo test/ --to folders --split test --where \"subset <> 'LDM'\"`"
    app.command(epilog=f"Examples: {examples}")(export)


def export(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    output: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    form: Annotated[str, typer.Option("--to", help=", ".join(FORMS))] = "folders",
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: Annotated[str | None, typer.Option("--where", help="A SQL condition on the store's rows.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="train, validation or test; all if not given.")] = None,
    use: Annotated[str, typer.Option("--use", help="private, research or commercial: what licences must allow.")] = "research",
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Write IPTC source type and chain into the files. Not for training: it tells the label.")
    ] = False,
) -> None:
    """Writes a version as folders, WebDataset, Hugging Face Parquet or image folder, or Lance, with Croissant metadata and a datasheet."""
    for value, known, option in ((form, FORMS, "--to"), (use, USES, "--use"), (split, (None, *SPLITS), "--split")):
        if value not in known:
            raise InputError(f"{option} {value} is not known", f"Choose from {', '.join(each for each in known if each)}")
    wanted = Export(form, where, split, use, provenance)  # type: ignore[arg-type]
    done = export_version(Store(store, dataset), output, wanted, version)
    console.out.print(f"{done.images:,} images in {done.folder}, with DATASHEET.md and croissant.json")
    for name, licence in done.licences.items():
        console.out.print(f"  {name}: {licence}", markup=False, soft_wrap=True)

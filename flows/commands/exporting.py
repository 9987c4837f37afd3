"""Taking a dataset elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import (
    DatasetArgument,
    DeliveryOption,
    ExportForm,
    JsonOption,
    Split,
    StoreOption,
    Use,
    VersionOption,
    WhereOption,
)
from flows.progress import step_progress


def add_to(app: typer.Typer) -> None:
    examples = "`ntf export demo out/ --to webdataset` · `ntf export demo test/ --to folders --split test --where \"subset <> 'LDM'\"`"
    app.command(epilog=f"Examples: {examples}")(export)


def export(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Argument(help="The folder to write. It must not exist yet.")],
    form: Annotated[ExportForm, typer.Option("--to", help="The form to write. parquet and imagefolder are Hugging Face's.")] = "folders",
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="Take only this split. If not given, all three.")] = None,
    delivery: DeliveryOption = None,
    use: Annotated[Use, typer.Option("--use", help="What you will use the images for. Their licences must allow it.")] = "research",
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance", help="Write into the files that they are generated, and how. Not for training: it gives the label away."
        ),
    ] = False,
    manifest: Annotated[
        str | None,
        typer.Option("--manifest", help="Take the block `publish` from this manifest. If not given, from the version's own."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Writes a version in a form that other programs read, with Croissant metadata and a datasheet."""
    from flows.publishing import stated_in
    from pipelines.export import Export
    from pipelines.export import export as export_version
    from pipelines.store import Store

    wanted = Export(form, where, split, use, provenance, delivery or "", stated_in(manifest, dataset))
    with step_progress("export") as show:
        exported = export_version(Store(store, dataset), output, wanted, version, show)
    if as_json:
        console.print_json(vars(exported))
        return
    console.out.print(f"{console.counted(exported.images, 'image')} in {exported.folder}, with DATASHEET.md and croissant.json")
    for name, licence in exported.licences.items():
        console.out.print(f"  {name}: {licence}", markup=False, soft_wrap=True)

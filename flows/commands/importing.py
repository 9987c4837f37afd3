"""Bringing images in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from generators.errors import InputError
from pipelines.importing import import_images


def add_to(app: typer.Typer) -> None:
    examples = (
        '`ntf import church_train_lmdb/ data/lsun --label real --licence "LSUN, research" --origin lsun.cs.princeton.edu` · '
        "`ntf import midjourney.zip data/midjourney --label fake --licence CC0 --origin https://example.org`"
    )
    app.command("import", epilog=f"Examples: {examples}")(bring_in)


def bring_in(
    source: Annotated[Path, typer.Argument(help="A folder, .zip, .tar (WebDataset), .parquet or saved Hugging Face dataset, or LMDB.")],
    output: Annotated[Path, typer.Argument(help="Images go to OUTPUT/real or OUTPUT/fake.")],
    label: Annotated[str, typer.Option("--label", help="real or fake.")],
    licence: Annotated[str, typer.Option("--licence", help="The licence or consent basis.")],
    origin: Annotated[str, typer.Option("--origin", help="Where they are from: an address, a name.")],
    identities: Annotated[Path | None, typer.Option("--identities", help="A CSV with `name,identity` of every image.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many images.")] = None,
    column: Annotated[str | None, typer.Option("--column", help="The image column of Parquet.")] = None,
) -> None:
    """Brings reals or foreign fakes in as plain PNG: bounded, upright, without metadata, licence and origin recorded."""
    if label not in ("real", "fake"):
        raise InputError(f"--label {label} is not known", "It is real or fake")
    done = import_images(source, output, label, licence, origin, identities, limit, column)  # type: ignore[arg-type]
    console.out.print(f"{done.images:,} images in {done.folder}, {len(done.refused)} refused (see {output / f'{label}.json'})")
    if label == "real":
        people = f", identities: {done.identities}" if done.identities else ""
        console.out.print(f'in a manifest: {{path: {done.folder}, licence: "{licence}"{people}}}', markup=False, soft_wrap=True)

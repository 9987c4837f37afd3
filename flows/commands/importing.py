"""Bringing images in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import JsonOption, Label
from flows.progress import step_progress


def add_to(app: typer.Typer) -> None:
    examples = (
        '`ntf import church_train_lmdb/ data/lsun --label real --licence "LSUN, research" --origin lsun.cs.princeton.edu` · '
        "`ntf import midjourney.zip data/midjourney --label fake --licence CC0 --origin https://example.org`"
    )
    app.command("import", epilog=f"Examples: {examples}")(bring_in)


def bring_in(
    source: Annotated[
        Path, typer.Argument(help="A folder, .zip, .tar (WebDataset), .parquet, LMDB, or a Hugging Face dataset saved to disk.")
    ],
    output: Annotated[Path, typer.Argument(help="The folder to write: real images go to OUTPUT/real, fakes to OUTPUT/fake.")],
    label: Annotated[Label, typer.Option("--label", help="What the images are.")],
    licence: Annotated[str, typer.Option("--licence", help="The licence of the images, or the consent that they rest on.")],
    origin: Annotated[str, typer.Option("--origin", help="Where the images are from: an address or a name.")],
    identities: Annotated[Path | None, typer.Option("--identities", help="A CSV file with a line `name,identity` for every image.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take at most this many images.")] = None,
    celebahq: Annotated[
        Path | None,
        typer.Option("--celebahq", help="CelebA-HQ-to-CelebA-mapping.txt, with identity_CelebA.txt as --identities."),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="The column of a Parquet file, or the suffix in a tar file, that the images have.")
    ] = None,
    compress: Annotated[
        bool, typer.Option("--compress", help="Compress the PNGs: about half as long for photographs, and several times as slow.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copies images from elsewhere into a folder, as plain PNG: upright, of bounded size, without metadata.

    The licence and the origin are written down beside them, and every file that was refused, with the reason.
    """
    from foreign.folders import said
    from pipelines.importing import import_images

    with step_progress("import") as show:
        imported = import_images(source, output, label, licence, origin, identities, limit, column, celebahq, compress, show)
    if as_json:
        console.print_json(vars(imported))
        return
    refused = f"{len(imported.refused):,} refused (see {output / f'{label}.json'})" if imported.refused else "none refused"
    console.out.print(f"{console.counted(imported.images, 'image')} in {imported.folder}, {refused}", soft_wrap=True)
    if left_out := said(imported.left_out):
        console.out.print(left_out, soft_wrap=True, markup=False)
    if imported.unused:
        console.out.print(f"{console.counted(imported.unused, 'line')} of {identities} name no image", soft_wrap=True, markup=False)
    if imported.captions:
        console.out.print(f"captions, as `prompts` of a manifest take them: {imported.captions}", soft_wrap=True, markup=False)
    if label == "real":
        people = f", identities: {imported.identities}" if imported.identities else ""
        entry = f'{{path: {imported.folder}, licence: "{licence}"{people}}}'
        console.out.print(f"in a manifest, under `reals`: {entry}", markup=False, soft_wrap=True)

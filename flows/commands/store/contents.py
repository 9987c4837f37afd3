"""What is in a version: images, outcomes, and images that belong together or look the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows import console
from flows.commands.options import DatasetArgument, JsonOption, StoreOption, VersionOption
from generators.errors import InputError

Among = Literal["splits", "subsets", "all"]
# As pipelines.examine.duplicates has them; tests/flows/commands/test_help.py holds them equal.
DISTANCE = 4
SIMILARITY = 0.95


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf store show demo` · `ntf store show demo SimSwap_LDM/faces/000003/1`")(show)
    app.command(epilog="Examples: `ntf store ledger demo` · `ntf store ledger demo --json`")(ledger)
    app.command(epilog="Examples: `ntf store pairs faces-multistep` · `ntf store pairs faces-multistep --json --version 2`")(pairs)
    app.command(epilog="Examples: `ntf store duplicates demo` · `ntf store duplicates demo --distance 2 --drop`")(duplicates)


def show(
    dataset: DatasetArgument,
    image: Annotated[str | None, typer.Argument(help="The id of an image. If not given, the subsets are listed.")] = None,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lists the subsets of a version with their numbers of images, or everything that is known of an image."""
    from pipelines.store import Store
    from pipelines.store.schema import light

    stored = Store(store, dataset)
    if image is None:
        counts = Counter((row.subset, row.role, row.split) for row in stored.rows(version=version))
        if as_json:
            keys = ("subset", "role", "split")
            console.print_json([{**dict(zip(keys, key, strict=True)), "images": count} for key, count in sorted(counts.items())])
            return
        table = console.table("subset", "role", "split", "images")
        for (subset, role, split), count in sorted(counts.items()):
            table.add_row(console.cell(subset), role, split, str(count))
        console.out.print(table)
        return
    rows = stored.named([image], version)
    if not rows:
        raise InputError(f"{dataset} has no image {image!r}", f"`ntf report {dataset}` shows images with their ids")
    console.print_json([light(row) for row in rows])


def ledger(
    dataset: DatasetArgument, store: StoreOption = Path("store"), version: VersionOption = None, as_json: JsonOption = False
) -> None:
    """Counts the images of every subset that were written, and those that were rejected, by reason."""
    from pipelines.store import Store

    rows = Store(store, dataset).rows("role IN ('final', 'rejected')", version)
    counts = Counter((row.subset, "written" if row.role == "final" else row.reason or "") for row in rows)
    if as_json:
        facts = [{"subset": subset, "outcome": outcome, "images": count} for (subset, outcome), count in sorted(counts.items())]
        console.print_json(facts)
        return
    table = console.table("subset", "outcome", "images")
    for (subset, outcome), count in sorted(counts.items()):
        table.add_row(console.cell(subset), outcome, str(count))
    console.out.print(table)


def pairs(dataset: DatasetArgument, store: StoreOption = Path("store"), version: VersionOption = None, as_json: JsonOption = False) -> None:
    """Lists the images that show one picture at different steps: subsets that begin at each other's images, and the reals behind them."""
    from dataclasses import asdict

    from pipelines.examine.pairs import partners
    from pipelines.store import Store

    pictures = partners(Store(store, dataset), version)
    if as_json:
        console.print_json([asdict(pair) for pair in pictures])
        return
    table = console.table("real image", "images, the first step first", "split")
    for pair in pictures:
        table.add_row(pair.real or "", "\n".join(pair.images.values()), pair.split)
    console.out.print(table)
    console.out.print(f"{len(pictures)} pictures with more than one image")


def duplicates(
    dataset: DatasetArgument,
    distance: Annotated[
        int,
        typer.Option(
            "--distance", min=0, max=16, help="Two images look the same if their perceptual hashes differ in at most this many of 64 bits."
        ),
    ] = DISTANCE,
    among: Annotated[
        Among, typer.Option("--among", help="Which pairs count: those in different splits, in different subsets, or all.")
    ] = "splits",
    features: Annotated[
        Path | None,
        typer.Option("--features", help="Compare by this .onnx network instead: RGB [N, 3, H, W] in [0, 1] to features [N, D]."),
    ] = None,
    similarity: Annotated[
        float, typer.Option("--similarity", min=0.5, max=1.0, help="With --features: the least cosine of two images that look the same.")
    ] = SIMILARITY,
    drop: Annotated[
        bool, typer.Option("--drop", help="Make a version without one image of every pair. Images of the test split stay.")
    ] = False,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lists images that look the same and are in different splits. With `--drop`, makes a version without them.

    Images that were made from each other, or from the same real image, are no pair. `--drop` works on pairs across splits by their hashes.
    """
    from flows.similar import similar_images
    from pipelines.examine.duplicates import drop_duplicates, find_duplicates
    from pipelines.store import Store

    stored = Store(store, dataset)
    if drop:
        if among != "splits" or features is not None:
            raise InputError("--drop works on pairs across splits by their hashes", "Leave out --among and --features")
        if version is not None:
            raise InputError("--drop works on the newest version only", "Leave out --version, or make that version the newest: `checkout`")
        without, dropped = drop_duplicates(stored, distance)
        if as_json:
            console.print_json({"version": without.number if without else None, "dropped": dropped})
            return
        if without:
            console.out.print(f"version {without.number} is without {console.counted(len(dropped), 'image')}; digest {without.digest}")
        else:
            console.out.print("no duplicates across splits")
        return
    if features is not None:
        pairs = similar_images(stored, features, version, similarity, among)
    else:
        pairs = find_duplicates(stored, version, distance, among)
    if as_json:
        console.print_json([vars(pair) for pair in pairs])
        return
    for pair in pairs:
        bits = console.counted(pair.distance, "bit") if pair.similarity is None else f"cosine {pair.similarity:.3f}"
        console.out.print(
            f"{bits}: {pair.first} ({pair.first_split}) and {pair.second} ({pair.second_split})", markup=False, soft_wrap=True
        )
    where = {"splits": "across splits", "subsets": "across subsets", "all": "in all"}[among]
    console.out.print(f"{console.counted(len(pairs), 'pair')} {where}")

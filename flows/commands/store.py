"""The store's versions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import console
from flows.commands.options import JsonOption, StoreOption, VersionOption
from pipelines.store import Store
from pipelines.store.schema import light

DatasetArgument = Annotated[str, typer.Argument(help="The dataset's name.")]
app = typer.Typer(no_args_is_help=True, help="Versions of a dataset: log, show, tag, digest, ledger.")


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="store")


@app.command(epilog="Examples: `ntf store log demo` · `ntf store log demo --store /data/store --json`")
def log(dataset: DatasetArgument, store: StoreOption = Path("store"), as_json: JsonOption = False) -> None:
    """All versions, oldest first: number, time, images, tags, digest."""
    versions = Store(store, dataset).log()
    if as_json:
        facts = [
            {"version": v.number, "created": v.created.isoformat(), "rows": v.rows, "tags": v.tags, "digest": v.digest} for v in versions
        ]
        console.out.print_json(json.dumps(facts))
        return
    table = Table("version", "created", "rows", "tags", "digest")
    for version in versions:
        created = version.created.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(version.number), created, str(version.rows), ", ".join(version.tags), version.digest[:16])
    console.out.print(table)


@app.command(epilog="Examples: `ntf store show demo` · `ntf store show demo SimSwap_LDM/faces/000003/1`")
def show(
    dataset: DatasetArgument,
    image: Annotated[str | None, typer.Argument(help="An image's id; without one, the version's subsets.")] = None,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
) -> None:
    """A version's subsets and counts, or everything that is known of one image."""
    found = Store(store, dataset)
    if image is None:
        table = Table("subset", "role", "split", "images")
        counts = Counter((row.subset, row.role, row.split) for row in found.rows(version=version))
        for (subset, role, split), count in sorted(counts.items()):
            table.add_row(subset, role, split, str(count))
        console.out.print(table)
        return
    quoted = image.replace("'", "''")
    rows = found.rows(f"id = '{quoted}'", version)
    if not rows:
        from generators.errors import InputError

        raise InputError(f"{dataset} has no image {image!r}", "The report and `ntf store show` name them")
    console.out.print_json(json.dumps([light(row) for row in rows]))


@app.command(epilog="Examples: `ntf store tag demo first-release` · `ntf store tag demo before-refresh --version 3`")
def tag(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(help="The new tag.")],
    store: StoreOption = Path("store"),
    version: VersionOption = None,
) -> None:
    """Names a version. A tagged version is never cleaned away."""
    Store(store, dataset).tag(name, version)
    console.out.print(f"tagged as {name}")


@app.command(epilog="Examples: `ntf store digest demo` · `ntf store digest demo --version 2`")
def digest(dataset: DatasetArgument, store: StoreOption = Path("store"), version: VersionOption = None) -> None:
    """The digest of a version, computed from its rows: the same for the same dataset on any machine."""
    console.out.print(Store(store, dataset).digest(version))


@app.command(epilog="Examples: `ntf store ledger demo` · `ntf store ledger demo --json`")
def ledger(
    dataset: DatasetArgument, store: StoreOption = Path("store"), version: VersionOption = None, as_json: JsonOption = False
) -> None:
    """For each subset: images written, and rejected tries by reason."""
    rows = Store(store, dataset).rows("label = 1", version)
    counts = Counter(
        (row.subset, "written" if row.role == "final" else row.reason or "") for row in rows if row.role in ("final", "rejected")
    )
    if as_json:
        console.out.print_json(json.dumps([{"subset": s, "outcome": o, "images": n} for (s, o), n in sorted(counts.items())]))
        return
    table = Table("subset", "outcome", "images")
    for (subset, outcome), count in sorted(counts.items()):
        table.add_row(subset, outcome, str(count))
    console.out.print(table)

"""The versions of a dataset: which there are, how they differ, their tags and digests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import DatasetArgument, JsonOption, StoreOption, VersionOption

VersionArgument = Annotated[str, typer.Argument(help="The number or tag of a version.")]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf store log demo` · `ntf store log demo --store /data/store --json`")(log)
    app.command(epilog="Examples: `ntf store diff demo 1 2` · `ntf store diff demo before-refresh 4 --json`")(diff)
    app.command(epilog="Examples: `ntf store tag demo first-release` · `ntf store tag demo before-refresh --version 3`")(tag)
    app.command(epilog="Examples: `ntf store untag demo first-release` · `ntf store untag demo before-refresh --store /data/store`")(untag)
    app.command(epilog="Examples: `ntf store checkout demo 3` · `ntf store checkout demo before-refresh --store /data/store`")(checkout)
    app.command(epilog="Examples: `ntf store digest demo` · `ntf store digest demo --version 2`")(digest)


def log(dataset: DatasetArgument, store: StoreOption = Path("store"), as_json: JsonOption = False) -> None:
    """Lists all versions, oldest first: number, time, rows, tags, digest."""
    from pipelines.store import Store

    versions = Store(store, dataset).log()
    if as_json:
        facts = [
            {
                "version": version.number,
                "created": version.created.isoformat(),
                "rows": version.rows,
                "tags": version.tags,
                "digest": version.digest,
            }
            for version in versions
        ]
        console.print_json(facts)
        return
    table = console.table("version", "created", "rows", "tags", "digest")
    for version in versions:
        created = version.created.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(version.number), created, str(version.rows), console.cell(", ".join(version.tags)), version.digest[:16])
    console.out.print(table)


def diff(
    dataset: DatasetArgument,
    before: VersionArgument,
    after: VersionArgument,
    store: StoreOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Compares two versions: which images were added, removed and replaced, and which checkpoint, parameter, seed or code is the cause."""
    from pipelines.examine.diff import diff as diff_of
    from pipelines.store import Store

    subsets = diff_of(Store(store, dataset), before, after)
    if as_json:
        facts = [
            {
                **{name: getattr(subset, name) for name in ("subset", "role", "added", "removed", "replaced")},
                "causes": [{**vars(cause), "images": count} for cause, count in subset.causes.most_common()],
            }
            for subset in subsets
        ]
        console.print_json(facts)
        return
    if not subsets:
        console.out.print("no difference")
        return
    table = console.table("subset", "role", "added", "removed", "replaced", "because of")
    for subset in subsets:
        causes = "\n".join(f"{cause} ({count})" for cause, count in subset.causes.most_common(6))
        table.add_row(console.cell(subset.subset), subset.role, str(subset.added), str(subset.removed), str(subset.replaced), causes)
    console.out.print(table)


def tag(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(help="The tag to set.")],
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Gives a version a name. `ntf store gc` never removes a tagged version."""
    from pipelines.store import Store

    stored = Store(store, dataset)
    stored.tag(name, version)
    if as_json:
        console.print_json({"dataset": dataset, "tag": name, "version": stored.version(name).number})
        return
    console.out.print(f"tagged {f'version {version}' if version else 'the newest version'} of {dataset} as {name}")


def untag(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(help="The tag to remove.")],
    store: StoreOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Removes a tag. The version that had it stays, and `ntf store gc` may remove it later."""
    from pipelines.store import Store

    number = Store(store, dataset).untag(name)
    if as_json:
        console.print_json({"dataset": dataset, "tag": name, "version": number})
        return
    console.out.print(f"removed the tag {name} from version {number} of {dataset}")


def checkout(
    dataset: DatasetArgument,
    version: VersionArgument,
    store: StoreOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Makes an older version the newest again, as a new version with the same rows. No image is copied, and no version is lost."""
    from pipelines.store import Store

    stored = Store(store, dataset)
    with stored.building():
        newest = stored.checkout(version)
    origin = newest.properties.get("restored", newest.number)
    if as_json:
        console.print_json({"dataset": dataset, "version": newest.number, "restored": int(origin), "digest": newest.digest})
        return
    console.out.print(f"version {newest.number} has the rows of version {origin}; digest {newest.digest}")


def digest(
    dataset: DatasetArgument, store: StoreOption = Path("store"), version: VersionOption = None, as_json: JsonOption = False
) -> None:
    """Prints the digest of a version, which is computed from its rows. The same dataset has the same digest on every machine."""
    from pipelines.store import Store

    value = Store(store, dataset).digest(version)
    if as_json:
        console.print_json({"dataset": dataset, "digest": value})
        return
    console.out.print(value)

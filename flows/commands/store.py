"""The store's versions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import console
from flows.commands.options import DeviceOption, JsonOption, StoreOption, VersionOption
from generators.errors import InputError
from pipelines.errors import CheckFailed
from pipelines.examine.diff import diff as diff_of
from pipelines.examine.duplicates import DISTANCE, drop_duplicates, find_duplicates
from pipelines.examine.verify import verify as verify_version
from pipelines.store import Store
from pipelines.store.forget import forget as forget_person
from pipelines.store.garbage import collect_garbage
from pipelines.store.schema import light

DatasetArgument = Annotated[str, typer.Argument(help="The dataset's name.")]
app = typer.Typer(no_args_is_help=True, help="Versions of a dataset: what they hold, how they differ, whether they are whole.")


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
    rows = found.named([image], version)
    if not rows:
        raise InputError(f"{dataset} has no image {image!r}", "The report names them, and so does the `rows.jsonl` of an export")
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


@app.command(epilog="Examples: `ntf store diff demo 1 2` · `ntf store diff demo before-refresh 4 --json`")
def diff(
    dataset: DatasetArgument,
    before: Annotated[str, typer.Argument(help="A version's number or tag.")],
    after: Annotated[str, typer.Argument(help="A version's number or tag.")],
    store: StoreOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """What was added, removed and replaced between two versions, by subset, and which checkpoint, parameter, seed or code caused it."""
    found = diff_of(Store(store, dataset), before, after)
    if as_json:
        facts = [
            {
                **{name: getattr(each, name) for name in ("subset", "role", "added", "removed", "replaced")},
                "causes": [{**vars(cause), "images": count} for cause, count in each.causes.most_common()],
            }
            for each in found
        ]
        console.out.print_json(json.dumps(facts))
        return
    if not found:
        console.out.print("no difference")
        return
    table = Table("subset", "role", "added", "removed", "replaced", "because of")
    for each in found:
        causes = "\n".join(f"{cause} ({count})" for cause, count in each.causes.most_common(6))
        table.add_row(each.subset, each.role, str(each.added), str(each.removed), str(each.replaced), causes)
    console.out.print(table)


@app.command(epilog="Examples: `ntf store checkout demo 3` · `ntf store checkout demo before-refresh --store /data/store`")
def checkout(
    dataset: DatasetArgument,
    version: Annotated[str, typer.Argument(help="A version's number or tag.")],
    store: StoreOption = Path("store"),
) -> None:
    """Makes an older version the newest again, as a new version with the same rows. Nothing is copied, and no version is lost."""
    found = Store(store, dataset)
    with found.building():
        now = found.checkout(version)
    console.out.print(f"version {now.number} has the rows of version {now.properties.get('restored', now.number)}; digest {now.digest}")


@app.command(epilog="Examples: `ntf store verify demo` · `ntf store verify demo --sample 20 --version 2`")
def verify(
    dataset: DatasetArgument,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Make so many fakes again from their recorded chains and seeds.")] = 0,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Reads every row back (sha256, decoding, digest), and makes some images again. Exit code 1 if anything is damaged or comes out
    different."""
    with console.step_progress("verify") as show:
        found = verify_version(Store(store, dataset), version, sample, device, lambda done, total: show(done, total, "rows"))
    if as_json:
        console.out.print_json(json.dumps({**vars(found), "passed": found.passed}))
    else:
        whole = "the digest is the recorded one" if found.digest else "[red]the digest could not be confirmed[/red]"
        console.out.print(f"version {found.version}: {found.rows:,} rows read, {found.images:,} images decoded, {whole}")
        for line in found.damaged:
            console.out.print(f"[red]damaged:[/red] {line}", soft_wrap=True)
        outcomes = Counter(found.remade.values())
        if outcomes:
            console.out.print("made again: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
        for name, why in found.why.items():
            console.out.print(f"  {name}: {found.remade[name]}: {why}", soft_wrap=True, markup=False)
    if not found.passed:
        different = sum(outcome == "different" for outcome in found.remade.values())
        raise CheckFailed(f"version {found.version} of {dataset}: {len(found.damaged)} damaged, {different} made again and different")


@app.command(epilog="Examples: `ntf store gc demo --dry-run` · `ntf store gc demo --keep 3`")
def gc(
    dataset: DatasetArgument,
    store: StoreOption = Path("store"),
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Also drop untagged versions other than the newest so many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Removes what killed builds left. Never a running build's files, a shard that waits for its commit, or a tagged version."""
    found = collect_garbage(Store(store, dataset), keep, dry_run)
    verb = "would remove" if dry_run else "removed"
    versions = f", versions {', '.join(map(str, found.versions))}" if found.versions else ""
    console.out.print(f"{verb} {len(found.files)} orphaned files ({found.bytes:,} bytes), {len(found.notes)} broken notes{versions}")


@app.command(epilog="Examples: `ntf store forget demo --identity George_W_Bush` · `ntf store forget mine --identity 1234 --real celebahq`")
def forget(
    dataset: DatasetArgument,
    identity: Annotated[str, typer.Option("--identity", help="The person, as the identity list names them.")],
    real: Annotated[str | None, typer.Option("--real", help="Only in this real source.")] = None,
    store: StoreOption = Path("store"),
) -> None:
    """Makes a version without a person and without everything that was made from them."""
    found = forget_person(Store(store, dataset), identity, real)
    removed = ", ".join(f"{count} {role}" for role, count in found.rows.items())
    if found.version:
        console.out.print(f"version {found.version.number} lacks {removed}; digest {found.version.digest}")
        console.out.print("Versions before it still hold them: `ntf store gc --keep 1` drops those that have no tag.", soft_wrap=True)
    if found.waiting:
        console.out.print(f"{found.waiting} shards that waited for a commit held them and were dropped: the next build makes them again.")
    if found.tags:
        console.out.print(f"[yellow]These tags hold them too:[/yellow] {', '.join(found.tags)}", soft_wrap=True)
    console.out.print("Put the identity on the manifest's `exclude` list, so that no later build draws it again.", soft_wrap=True)


@app.command(epilog="Examples: `ntf store duplicates demo` · `ntf store duplicates demo --distance 2 --drop`")
def duplicates(
    dataset: DatasetArgument,
    distance: Annotated[int, typer.Option("--distance", min=0, max=16, help="In how many of 64 bits hashes may differ.")] = DISTANCE,
    drop: Annotated[bool, typer.Option("--drop", help="Make a version without one image of each pair; the test split stays.")] = False,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Images that look the same and lie in different splits, by perceptual hash."""
    found = Store(store, dataset)
    if drop:
        if version is not None:
            raise InputError("--drop works on the newest version", "Leave out --version, or check that version out first")
        made, gone = drop_duplicates(found, distance)
        console.out.print(
            f"version {made.number} lacks {len(gone)} images; digest {made.digest}" if made else "no duplicates across splits"
        )
        return
    pairs = find_duplicates(found, version, distance)
    if as_json:
        console.out.print_json(json.dumps([vars(pair) for pair in pairs]))
        return
    for pair in pairs:
        console.out.print(
            f"{pair.distance} bits: {pair.first} ({pair.first_split}) and {pair.second} ({pair.second_split})", markup=False, soft_wrap=True
        )
    console.out.print(f"{len(pairs)} pairs across splits")

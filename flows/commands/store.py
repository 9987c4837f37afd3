"""The store's versions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows import console
from flows.commands.options import DatasetArgument, DeviceOption, JsonOption, StoreOption, VersionOption
from flows.progress import step_progress
from generators.errors import InputError

if TYPE_CHECKING:
    from pipelines.examine.mend import Mended
    from pipelines.examine.verify import Verification
    from pipelines.store.forget import Forgotten

Among = Literal["splits", "subsets", "all"]
SIMILARITY = 0.95  # likewise
DISTANCE = 4  # as pipelines.examine.duplicates has it; tests/flows/commands/test_help.py holds them equal
VersionArgument = Annotated[str, typer.Argument(help="The number or tag of a version.")]
app = typer.Typer(no_args_is_help=True, help="Shows, compares, checks, tags and cleans the versions of a dataset.")


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="store")


@app.command(epilog="Examples: `ntf store log demo` · `ntf store log demo --store /data/store --json`")
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


@app.command(epilog="Examples: `ntf store show demo` · `ntf store show demo SimSwap_LDM/faces/000003/1`")
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


@app.command(epilog="Examples: `ntf store tag demo first-release` · `ntf store tag demo before-refresh --version 3`")
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


@app.command(epilog="Examples: `ntf store untag demo first-release` · `ntf store untag demo before-refresh --store /data/store`")
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


@app.command(epilog="Examples: `ntf store digest demo` · `ntf store digest demo --version 2`")
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


@app.command(epilog="Examples: `ntf store ledger demo` · `ntf store ledger demo --json`")
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


@app.command(epilog="Examples: `ntf store pairs faces-multistep` · `ntf store pairs faces-multistep --json --version 2`")
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


@app.command(epilog="Examples: `ntf store diff demo 1 2` · `ntf store diff demo before-refresh 4 --json`")
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


@app.command(epilog="Examples: `ntf store checkout demo 3` · `ntf store checkout demo before-refresh --store /data/store`")
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


@app.command(epilog="Examples: `ntf store verify demo` · `ntf store verify demo --sample 20 --version 2`")
def verify(
    dataset: DatasetArgument,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Make this many fakes again, from their recorded chains and seeds.")] = 0,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Reads every image of a version and checks it against its sha256. With `--sample`, makes some images again and compares them.

    The exit code is 1 if an image is damaged, or different when it is made again.
    """
    from pipelines.errors import CheckFailed
    from pipelines.examine.verify import verify as verify_version
    from pipelines.store import Store

    with step_progress("verify") as show:
        checked = verify_version(Store(store, dataset), version, sample, device, lambda done, total: show(done, total, "rows"))
    if as_json:
        console.print_json({**vars(checked), "passed": checked.passed})
    else:
        _show_verification(checked)
    if not checked.passed:
        different = sum(outcome == "different" for outcome in checked.remade.values())
        damaged = f"{len(checked.damaged):,} damaged, {different:,} different when made again"
        raise CheckFailed(f"version {checked.version} of {dataset}: {damaged}")


def _show_verification(checked: Verification) -> None:
    whole = "the digest is the recorded one" if checked.digest else "[red]the digest is not the recorded one[/red]"
    rows, images = console.counted(checked.rows, "row"), console.counted(checked.images, "image")
    console.out.print(f"version {checked.version}: read {rows}, decoded {images}, {whole}")
    for line in checked.damaged:
        console.out.print(f"[red]damaged:[/red] {line}", soft_wrap=True)
    outcomes = Counter(checked.remade.values())
    if outcomes:
        console.out.print("made again: " + ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common()))
    for name, why in checked.why.items():
        console.out.print(f"  {name}: {checked.remade[name]}: {why}", soft_wrap=True, markup=False)


@app.command(epilog="Examples: `ntf store mend demo` · `ntf store mend demo --store /data/store --json`")
def mend(dataset: DatasetArgument, store: StoreOption = Path("store"), as_json: JsonOption = False) -> None:
    """Drops what is damaged from the newest version, as a new version. The next `ntf build` makes exactly that again.

    A version whose manifest is damaged or missing is set aside, and the one before it takes its place. `ntf store verify` says what is
    damaged and changes nothing.
    """
    from dataclasses import asdict

    from pipelines.examine.mend import mend as mend_store
    from pipelines.store import Store

    with step_progress("mend") as show:
        mended = mend_store(Store(store, dataset), lambda done, total: show(done, total, "rows"))
    if as_json:
        facts = {**asdict(mended), "version": mended.version.number if mended.version else None}
        console.print_json(facts)
        return
    _show_mended(dataset, mended)


def _show_mended(dataset: str, mended: Mended) -> None:
    for line in mended.damaged:
        console.out.print(f"[red]damaged:[/red] {line}", soft_wrap=True)
    if mended.set_aside:
        numbers = ", ".join(map(str, mended.set_aside))
        rest = f"version {mended.before} is the newest now" if mended.before else "none is left, and the next `ntf build` makes all anew"
        noun = "version" if len(mended.set_aside) == 1 else "versions"
        console.out.print(f"set aside {noun} {numbers} in {dataset}.damaged: {rest}", soft_wrap=True)
    if mended.tags:
        console.out.print(f"removed the tags of these versions: {', '.join(mended.tags)}", soft_wrap=True)
    if mended.version:
        dropped = f"{console.counted(mended.shards, 'damaged shard')} ({console.counted(mended.rows, 'row')})"
        console.out.print(f"version {mended.version.number} is without {dropped}. `ntf build` makes them again.", soft_wrap=True)
        console.out.print(f"To go back, once the files are restored: `ntf store checkout {dataset} {mended.before}`", soft_wrap=True)
    if not mended.damaged:
        console.out.print(f"nothing to mend: version {mended.before} is whole")


@app.command(epilog="Examples: `ntf store gc demo --dry-run` · `ntf store gc demo --keep 3`")
def gc(
    dataset: DatasetArgument,
    store: StoreOption = Path("store"),
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Also remove old versions: keep this many of the newest, and all that have a tag.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Removes files that killed builds left, and with `--keep` old versions.

    It never removes the files of a running build, shards that the next build can still use, or versions that have a tag.
    """
    from pipelines.store import Store
    from pipelines.store.garbage import collect_garbage

    garbage = collect_garbage(Store(store, dataset), keep, dry_run)
    if as_json:
        console.print_json({**vars(garbage), "dry_run": dry_run})
        return
    verb = "would remove" if dry_run else "removed"
    files = f"{console.counted(len(garbage.files), 'unused file')} ({console.counted(garbage.bytes, 'byte')})"
    notes = console.counted(len(garbage.notes), "damaged note")
    noun = "version" if len(garbage.versions) == 1 else "versions"
    numbers = f", {noun} {', '.join(map(str, garbage.versions))}" if garbage.versions else ""
    leftovers = f", {console.counted(len(garbage.leftovers), 'half-written file')}" if garbage.leftovers else ""
    console.out.print(f"{verb} {files}, {notes}{leftovers}{numbers}")


@app.command(epilog="Examples: `ntf store forget demo --identity George_W_Bush` · `ntf store forget mine --identity 1234 --real celebahq`")
def forget(
    dataset: DatasetArgument,
    identity: Annotated[str, typer.Option("--identity", help="The person, by the name in the list of identities.")],
    real: Annotated[str | None, typer.Option("--real", help="Look only in this real source.")] = None,
    store: StoreOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """Makes a version without the images of a person, and without everything that was made from them."""
    from pipelines.store import Store
    from pipelines.store.forget import forget as forget_person

    forgotten = forget_person(Store(store, dataset), identity, real)
    if as_json:
        console.print_json({**vars(forgotten), "version": forgotten.version.number if forgotten.version else None})
        return
    _show_forgotten(dataset, forgotten)


def _show_forgotten(dataset: str, forgotten: Forgotten) -> None:
    if forgotten.version:
        removed = ", ".join(f"{count:,} {role}" for role, count in forgotten.rows.items())
        console.out.print(f"version {forgotten.version.number} is without these images: {removed}; digest {forgotten.version.digest}")
        console.out.print(
            f"Older versions still have them. `ntf store gc {dataset} --keep 1` removes the versions that have no tag.", soft_wrap=True
        )
    if forgotten.waiting:
        console.out.print(f"Dropped {console.counted(forgotten.waiting, 'shard')} of an unfinished build. The next build makes them again.")
    if forgotten.tags:
        console.out.print(f"[yellow]Tagged versions still have them:[/yellow] {', '.join(forgotten.tags)}", soft_wrap=True)
    console.out.print("Put the person on the manifest's `exclude` list, so that no later build uses them again.", soft_wrap=True)


@app.command(epilog="Examples: `ntf store duplicates demo` · `ntf store duplicates demo --distance 2 --drop`")
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

"""Keeping a store whole and small: checking, mending, forgetting a person, removing what nothing needs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import console
from flows.commands.options import DatasetArgument, DeviceOption, JsonOption, StoreOption, VersionOption
from flows.progress import step_progress

if TYPE_CHECKING:
    from pipelines.examine.mend import Mended
    from pipelines.examine.verify import Verification
    from pipelines.store.forget import Forgotten


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf store verify demo` · `ntf store verify demo --sample 20 --version 2`")(verify)
    app.command(epilog="Examples: `ntf store mend demo` · `ntf store mend demo --store /data/store --json`")(mend)
    app.command(
        epilog="Examples: `ntf store forget demo --identity George_W_Bush` · `ntf store forget mine --identity 1234 --real celebahq`"
    )(forget)
    app.command(epilog="Examples: `ntf store gc demo --dry-run` · `ntf store gc demo --keep 3`")(gc)


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

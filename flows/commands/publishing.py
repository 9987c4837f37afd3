"""Putting a dataset onto the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import DatasetArgument, DeliveryOption, JsonOption, PublishForm, StoreOption, Use, VersionOption, WhereOption
from flows.progress import step_progress


def add_to(app: typer.Typer) -> None:
    examples = (
        "`ntf publish demo my-lab/demo` · `ntf publish demo my-lab/demo --prepare look-first` · `ntf publish demo my-lab/demo --public`"
    )
    app.command(epilog=f"Examples: {examples}")(publish)


def publish(
    dataset: DatasetArgument,
    repository: Annotated[str, typer.Argument(help="The repository on the Hub, as ORGANISATION/NAME. It is made if it is not there.")],
    form: Annotated[PublishForm, typer.Option("--to", help="The form. The Hub's viewer shows parquet best.")] = "parquet",
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    delivery: DeliveryOption = None,
    use: Annotated[Use, typer.Option("--use", help="What the images may be used for. Their licences must allow it.")] = "research",
    manifest: Annotated[
        str | None,
        typer.Option("--manifest", help="Take the block `publish` from this manifest. If not given, from the version's own."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it. If not given, it is private.")] = False,
    prepare: Annotated[
        Path | None, typer.Option("--prepare", help="Only write what would be uploaded to this folder, to look at it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Puts a version onto the Hugging Face Hub, with a card, Croissant metadata and hashes. Licences are checked first.

    The repository is private unless you give `--public`. It gets the new files in one commit, and loses those that it had before. If the
    upload is stopped, the same command goes on. `hf auth login` signs you in.
    """
    from flows.publishing import publish as publish_version
    from flows.publishing import stated_in
    from pipelines.export import Export
    from pipelines.export import export as export_version
    from pipelines.export.publish import Repository
    from pipelines.store import Store

    place = Repository(repository)
    wanted = Export(form, where, None, use, False, delivery or "", stated_in(manifest, dataset), repository)
    opened = Store(store, dataset)
    if prepare is not None:
        with step_progress("export") as show:
            exported = export_version(opened, prepare, wanted, version, show)
        if as_json:
            console.print_json(vars(exported))
            return
        images = console.counted(exported.images, "image")
        console.out.print(f"{images} in {prepare}, as they would be uploaded; nothing was uploaded", markup=False, soft_wrap=True)
        return
    with step_progress("publish") as show:
        done = publish_version(opened, place, wanted, version, public, show)
    published = done.published
    facts = {"repository": repository, "url": published.url, "commit": published.commit, "private": published.private}
    facts |= {"images": done.images, "files": published.files, "removed": published.removed, "changed": published.changed}
    facts |= {"licences": done.licences, "unstated": list(done.unstated)}
    if as_json:
        console.print_json(facts)
        return
    who = "private" if published.private else "everybody can read it"
    state = "" if published.changed else "; it had this version already"
    removed = f", {published.removed:,} old ones removed" if published.removed else ""
    files = console.counted(published.files, "file")
    images = console.counted(done.images, "image")
    console.out.print(f"{published.url} ({who}): {images} in {files}{removed}{state}", markup=False, soft_wrap=True)
    for name, licence in done.licences.items():
        console.out.print(f"  {name}: {licence}", markup=False, soft_wrap=True)
    if done.unstated:
        console.say([f"the manifest's block `publish` states no {', no '.join(done.unstated)}; docs/publishing.md says what each is for"])
    if public and published.private:
        console.say([f"{repository} was private before and stays private: change that in its settings on the Hub"])

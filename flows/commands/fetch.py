"""Getting what `ntf plan` misses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import console
from flows.commands.options import JsonOption
from flows.progress import transfer_progress

if TYPE_CHECKING:
    from pipelines.catalogue.catalogue import Catalogue
    from pipelines.catalogue.fetching import FetchReport

WhatArgument = Annotated[
    list[str], typer.Argument(help="Manifests (YAML files, `demo` or `paper`) and names of checkpoints. `ntf checkpoint list` shows those.")
]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf fetch paper --accept Apache-2.0` · `ntf fetch paper --from ~/Downloads`")(fetch)


def fetch(
    what: WhatArgument,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="A licence that you have read and agree to. May be given several times.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Take files that you fetched by hand out of this folder, and fetch nothing.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=16, help="How many files to fetch at once.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Gets the checkpoints that a manifest needs and this machine does not have. A fetch that was stopped goes on where it was.

    Licences are listed first and must be accepted. What only a person can get is listed with the steps. The sha256 of everything that
    comes is noted in `checkpoints/lock.yaml`; from then on other bytes under the same name are an error.
    """
    from pipelines.catalogue import fetching
    from pipelines.errors import CheckFailed

    catalogue, names, roots = _wanted(what)
    missing = fetching.absent(names, catalogue)
    fetching.require_inside(missing, catalogue, roots)
    report, doubts = fetching.FetchReport(), list[str]()
    if source is not None:
        report, doubts = fetching.take_from(source.expanduser(), missing, catalogue)
    else:
        ready = [name for name in missing if catalogue.entries[name].is_fetchable]
        fetching.require_consent(ready, catalogue, accept or [])
        if ready:
            with transfer_progress() as (watch_of, total):
                report = fetching.fetch(ready, catalogue, jobs, watch_of, total)
    still = fetching.absent(names, catalogue)
    if as_json:
        console.print_json(_as_data(report, doubts, still, catalogue))
    else:
        _show(report, doubts, still, catalogue)
    if still:
        raise CheckFailed(f"{console.counted(len(still), 'checkpoint')} of {', '.join(what)} are not here yet: {', '.join(still)}")


def _wanted(what: list[str]) -> tuple[Catalogue, list[str], list[Path]]:
    """The catalogue with what the manifests describe, the checkpoints that are asked for, and the folders of the manifests."""
    from flows.data import find_manifest
    from pipelines.catalogue.catalogue import Catalogue
    from pipelines.manifest.load import load_manifest
    from pipelines.plan.missing import needed_by_manifest

    catalogue = Catalogue.shipped()
    names: dict[str, None] = {}
    roots = []
    for word in what:
        if word in catalogue.entries:
            names[word] = None
            continue
        path = find_manifest(word)
        manifest = load_manifest(path)
        catalogue = catalogue.joined(manifest.checkpoints)
        names |= dict.fromkeys(needed_by_manifest(manifest))
        roots.append(path.parent)
    return catalogue, list(names), roots


def _show(report: FetchReport, doubts: list[str], still: list[str], catalogue: Catalogue) -> None:
    for done in report.fetched:
        console.out.print(f"{done.name}: {done.path}, sha256 {done.sha256[:16]}, from {done.source}", soft_wrap=True, markup=False)
        console.out.print(f"         {catalogue.entries[done.name].licence_note}", soft_wrap=True, markup=False)
    for name, reason in report.failed.items():
        console.out.print(f"[red]failed:[/red] {name}", soft_wrap=True)
        console.out.print(f"         {reason}", soft_wrap=True, markup=False)
    for doubt in doubts:
        console.out.print("[yellow]not taken:[/yellow] ", end="")
        console.out.print(doubt, soft_wrap=True, markup=False)
    for name in (name for name in still if name not in report.failed):
        entry = catalogue.entries[name]
        console.out.print(f"[yellow]by hand:[/yellow] {name}" if not entry.is_fetchable else f"missing: {name}")
        console.out.print(f"         {entry.licence_note}", soft_wrap=True, markup=False)
        console.out.print(f"         get {catalogue.origin(name)}", soft_wrap=True, markup=False)
        console.out.print(f"         put it at {catalogue.path(name)}, or use `ntf fetch --from FOLDER`", soft_wrap=True, markup=False)
    if not still:
        console.out.print("All checkpoints are here.")


def _as_data(report: FetchReport, doubts: list[str], still: list[str], catalogue: Catalogue) -> dict[str, Any]:
    return {
        "fetched": [{**vars(done), "path": str(done.path)} for done in report.fetched],
        "failed": report.failed,
        "not_taken": doubts,
        "missing": [{"name": name, "path": str(catalogue.path(name)), "origin": catalogue.origin(name)} for name in still],
    }

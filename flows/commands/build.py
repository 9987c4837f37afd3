"""Plan and build."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows import console, jobs
from flows.commands.options import DevicesOption, JsonOption, LimitOption, StoreOption
from pipelines.build import rates
from pipelines.build.build import Status, require_gate, run_build, status
from pipelines.examine.lineage import StaleShards, stale_shards
from pipelines.make.models import pick_device
from pipelines.manifest.schema import load_manifest
from pipelines.plan.plan import Plan
from pipelines.store import Store

ManifestArgument = Annotated[str, typer.Argument(help="A YAML file, or `demo` or `paper`, which ship with the project.")]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf validate demo` · `ntf validate mine.yaml`")(validate)
    app.command(epilog="Examples: `ntf plan paper` · `ntf plan mine.yaml --json`")(plan)
    app.command(epilog="Examples: `ntf build demo` · `ntf build mine.yaml --store /data/store --devices 0,1,2,3`")(build)


def validate(manifest: ManifestArgument) -> None:
    """Checks a manifest: keys, types, names, and whether its chains can be run."""
    found = load_manifest(jobs.find_manifest(manifest))
    images = sum(subset.count for subset in found.subsets.values())
    console.out.print(f"{found.dataset}: {len(found.subsets)} subsets, {images:,} fakes at {found.size} px. The manifest is right.")


def plan(manifest: ManifestArgument, store: StoreOption = Path("store"), limit: LimitOption = None, as_json: JsonOption = False) -> None:
    """Shows the subsets and shards of a manifest: present, to be made, stale; and every file that is missing, with where to get it."""
    found = jobs.plan_of(manifest, limit)
    dataset = Store(store, found.manifest.dataset)
    state = status(found, dataset)
    stale = stale_shards(found, dataset, state.stale)
    if as_json:
        console.out.print_json(json.dumps(_as_data(found, state, stale)))
        return
    _show_subsets(found, state)
    for group in stale:
        reasons = "; ".join(map(str, group.reasons))
        console.out.print(f"[yellow]stale:[/yellow] {group.title}: {len(group.keys)} shards: {reasons}", soft_wrap=True)
    for warning in found.warnings:
        console.out.print(f"[yellow]warning:[/yellow] {warning}")
    for missing in found.missing:
        console.out.print(f"[red]missing:[/red] {missing.what} for {', '.join(missing.needed_by)}")
        console.out.print(f"         put it at {missing.path}", soft_wrap=True)
        console.out.print(f"         from {missing.origin}  ({missing.licence})", soft_wrap=True, markup=False)


def build(
    manifest: ManifestArgument, store: StoreOption = Path("store"), device: DevicesOption = "auto", limit: LimitOption = None
) -> None:
    """Makes the shards that are missing, commits them as one version, and audits it. Says so if nothing is to be done."""
    found = jobs.plan_of(manifest, limit)
    for warning in found.warnings:
        console.err.print(f"[yellow]warning:[/yellow] {warning}")
    dataset = Store(store, found.manifest.dataset)
    with console.shard_progress() as show:
        result = run_build(found, dataset, device, show)
    if result.version is None:
        console.out.print(
            f"nothing to do: all {result.reused} shards of {found.manifest.dataset} are in version {dataset.version().number}"
        )
        require_gate(found, dataset)
        return
    console.out.print(
        f"version {result.version.number}: {result.made} shards made ({result.images} images, {result.seconds:.1f} s), "
        f"{result.reused} reused, {result.dropped} stale dropped; digest {result.version.digest}"
    )
    for failure in result.failures:
        console.out.print(f"  failed: {failure.shard.title}: {failure.reason}", markup=False)
    for subset, reasons in result.rejected.items():
        console.out.print(f"  {subset}: rejected " + ", ".join(f"{count} x {reason}" for reason, count in reasons.items()))
    if result.audit is not None:
        console.out.print(f"audit: {result.audit.gate.reason} ({result.audit.seconds:.1f} s)", soft_wrap=True, markup=False)
    require_gate(found, dataset)


def _show_subsets(found: Plan, state: Status) -> None:
    present = {shard.key for shard in state.present}
    table = Table(
        "subset", "mode", "fakes", "real source", "shards", "present", title=f"{found.manifest.dataset}, {found.manifest.size} px"
    )
    for name, subset in found.manifest.subsets.items():
        own = [shard for shard in found.shards if shard.subset == name]
        ready = sum(shard.key in present for shard in own)
        table.add_row(name, subset.mode, f"{subset.count:,}", ", ".join(subset.reals), str(len(own)), str(ready))
    console.out.print(table)
    fakes = sum(subset.count for subset in found.manifest.subsets.values())
    console.out.print(
        f"{len(found.manifest.subsets)} subsets, {fakes:,} fakes, {len(found.shards)} shards: {len(state.present)} present, "
        f"{len(state.missing)} to be made, {len(state.stale)} stale; about {_bytes(found.estimated_bytes())} in all",
        soft_wrap=True,
    )
    if state.missing:
        console.out.print(_time(state), soft_wrap=True)


def _time(state: Status) -> str:
    """How long the missing shards will take on this machine, as far as earlier builds tell."""
    seconds, unknown = rates.estimate(pick_device(), state.missing)
    names = ", ".join(sorted(unknown))
    if not seconds:
        return f"how long they take is not known: {names or 'nothing of this'} has not been built on this machine yet"
    lacking = f", without {names}, not built here yet" if unknown else ""
    return f"making them takes about {timedelta(seconds=round(seconds))} by earlier builds on this machine{lacking}"


def _as_data(found: Plan, state: Status, stale: list[StaleShards]) -> dict[str, Any]:
    present = {shard.key for shard in state.present}
    return {
        "dataset": found.manifest.dataset,
        "subsets": {
            name: {"fakes": subset.count, "mode": subset.mode, "reals": subset.reals} for name, subset in found.manifest.subsets.items()
        },
        "shards": [
            {"title": shard.title, "key": shard.key, "images": shard.count, "present": shard.key in present} for shard in found.shards
        ],
        "stale": [{"title": group.title, "keys": group.keys, "reasons": list(map(str, group.reasons))} for group in stale],
        "missing": [vars(missing) for missing in found.missing],
        "warnings": list(found.warnings),
        "bytes": found.estimated_bytes(),
        "seconds": rates.estimate(pick_device(), state.missing)[0],
    }


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.1f} {unit}"

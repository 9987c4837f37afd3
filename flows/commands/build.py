"""Validate, plan, check and build."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import console
from flows.commands.options import (
    AllowOutsideOption,
    AllowRulesOption,
    BatchOption,
    DeliveriesOption,
    DeviceOption,
    DevicesOption,
    JsonOption,
    LimitOption,
    StoreOption,
)
from flows.progress import shard_progress

if TYPE_CHECKING:
    from pipelines.build.build import BuildReport, Status
    from pipelines.build.check import Finding
    from pipelines.examine.lineage import StaleShards
    from pipelines.manifest.schema import Manifest
    from pipelines.plan.plan import Plan
    from pipelines.store import Store

ManifestArgument = Annotated[str, typer.Argument(help="A YAML file, or `demo`, `paper` or `today`, which ship with the project.")]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf validate demo` · `ntf validate mine.yaml`")(validate)
    app.command(epilog="Examples: `ntf plan paper` · `ntf plan mine.yaml --json` · `ntf plan mine.yaml --expand`")(plan)
    app.command(epilog="Examples: `ntf check paper` · `ntf check mine.yaml --json`")(check)
    app.command(epilog="Examples: `ntf build demo` · `ntf build mine.yaml --store /data/store --devices 0,1,2,3 --delivery web`")(build)


def validate(manifest: ManifestArgument, allow_outside: AllowOutsideOption = False, as_json: JsonOption = False) -> None:
    """Checks a manifest: its keys, types and names, its folders and lists, and whether its chains can be run. Makes nothing.

    Everything that is wrong is listed, one line each, and the exit code is then 2.
    """
    from flows.data import checked_manifest
    from pipelines.manifest.sizes import said

    checked, problems = checked_manifest(manifest)
    if as_json:
        wrong = [{"problem": problem.message, "fix": problem.fix, "line": problem.line} for problem in problems]
        console.print_json({"manifest": manifest, "dataset": checked.dataset if checked else None, "problems": wrong})
        raise typer.Exit(2 if problems else 0)
    for problem in problems[:-1]:
        console.complain(problem.message, problem.fix)
    if problems:
        raise problems[-1]
    assert checked is not None
    subsets = console.counted(len(checked.subsets), "subset")
    console.out.print(
        f"{checked.dataset}: {subsets}, {_images_of(checked)} at {said(checked.size)}. The manifest is right.", soft_wrap=True
    )


def _images_of(manifest: Manifest) -> str:
    """The fakes that a manifest plans, and its retouched real images where it has any."""
    fakes = console.counted(sum(subset.fakes for subset in manifest.subsets.values()), "fake")
    retouched = sum(subset.retouched for subset in manifest.subsets.values())
    return f"{fakes}, {console.counted(retouched, 'retouched real')}" if retouched else fakes


def plan(
    manifest: ManifestArgument,
    store: StoreOption = Path("store"),
    limit: LimitOption = None,
    as_json: JsonOption = False,
    expand: Annotated[
        bool, typer.Option("--expand", help="Print the manifest with every recipe written out as the steps that it stands for, and end.")
    ] = False,
    allow_outside: AllowOutsideOption = False,
    allow_rules: AllowRulesOption = False,
) -> None:
    """Shows what a build would do: the shards that are present, missing and stale, and how long the missing ones take.

    It names everything that is needed and not there, or there and no use, and where to get it. The exit code is then 1, or 2 if something
    is there and no use: a list that cannot be read, a checkpoint that is not the listed one, too few people.
    """
    from rich.markup import escape

    from flows.data import plan_of
    from pipelines.build.build import status
    from pipelines.examine.lineage import stale_shards
    from pipelines.store import Store

    if expand:
        print(_written_out(manifest), end="")
        return
    planned = plan_of(manifest, limit)
    dataset = Store(store, planned.manifest.dataset)
    state = status(planned, dataset)
    stale = stale_shards(planned, dataset, state.stale)
    if as_json:
        deliveries = {name: {"shards": of, "present": there} for name, (there, of) in _deliveries(planned, dataset).items()}
        console.print_json({**_as_data(planned, state, stale), "deliveries": deliveries})
        raise typer.Exit(_exit_code(planned))
    _show_subsets(planned, state, _deliveries(planned, dataset))
    for group in stale:
        reasons = "; ".join(map(str, group.reasons))
        console.out.print(f"[yellow]stale:[/yellow] {group.title}: {console.counted(len(group.keys), 'shard')}: {reasons}", soft_wrap=True)
    for warning in planned.warnings:
        console.out.print(f"[yellow]warning:[/yellow] {warning}")
    for missing in planned.missing:
        if missing.problem:
            console.out.print(f"[red]no use:[/red]  {escape(missing.problem)}, for {', '.join(missing.needed_by)}", soft_wrap=True)
            console.out.print(f"         {missing.origin}", soft_wrap=True, markup=False)
            continue
        console.out.print(f"[red]missing:[/red] {missing.what} for {', '.join(missing.needed_by)}", soft_wrap=True)
        console.out.print(f"         put it at {missing.path}", soft_wrap=True)
        console.out.print(f"         get it from {missing.origin}  ({missing.licence})", soft_wrap=True, markup=False)
    raise typer.Exit(_exit_code(planned))


def _written_out(manifest: str) -> str:
    """The manifest's YAML without recipes. InputError for the first thing that is wrong with it."""
    from flows.data import find_manifest
    from pipelines.manifest.load import load_manifest
    from pipelines.manifest.recipes import written_out

    file = find_manifest(manifest)
    load_manifest(file)
    return written_out(file)


def _exit_code(planned: Plan) -> int:
    """2 if something is there and no use, 1 if something is only not there yet."""
    return max((2 if missing.no_use else 1 for missing in planned.missing), default=0)


def check(
    manifest: ManifestArgument,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    allow_outside: AllowOutsideOption = False,
    allow_rules: AllowRulesOption = False,
) -> None:
    """Tries a manifest before hours of work: loads every checkpoint once and makes one image of every step, in two steps of diffusion.

    It stores nothing and goes on after a fault, so that all are shown. The exit code is 1 if there is one.
    """
    from dataclasses import asdict

    from flows.data import plan_of
    from pipelines.build.check import check as findings_of
    from pipelines.make.models import pick_device

    findings = []
    for finding in findings_of(plan_of(manifest, None), pick_device(device)):
        findings.append(finding)
        if not as_json:
            console.out.print(_finding_line(finding), soft_wrap=True, markup=False)
    wrong = sum(bool(finding.problem) for finding in findings)
    if as_json:
        console.print_json([asdict(finding) for finding in findings])
    else:
        console.out.print(f"{console.counted(len(findings), 'thing')} checked, {console.counted(wrong, 'fault')}")
    raise typer.Exit(1 if wrong else 0)


def _finding_line(finding: Finding) -> str:
    title = f"{finding.what} ({finding.subset})"
    if finding.problem:
        return f"WRONG {title}: {finding.problem}. Fix: {finding.fix}"
    return (
        f"ok    {title}: {finding.size}, loaded in {finding.load_seconds:.1f} s, one image in {finding.image_seconds:.1f} s, "
        f"{_bytes(finding.peak_bytes)} at most"
    )


def build(
    manifest: ManifestArgument,
    store: StoreOption = Path("store"),
    device: DevicesOption = "auto",
    limit: LimitOption = None,
    delivery: DeliveriesOption = None,
    batch: BatchOption = None,
    allow_outside: AllowOutsideOption = False,
    allow_rules: AllowRulesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Makes the shards that are missing, commits them as one version, and audits it.

    A build that was stopped goes on where it was. While another build of the dataset runs, it waits for its end. Deliveries of the manifest
    are made when they are asked for. The exit code is 1 if the audit fails and the manifest does not allow that. A version of too few
    images is not judged: the build says so and ends with 0, and `ntf audit` ends with 2.
    """
    from flows.data import plan_of
    from pipelines.build.build import require_gate, run_build
    from pipelines.store import Store

    planned = plan_of(manifest, limit)
    for warning in planned.warnings:
        console.err.print(f"[yellow]warning:[/yellow] {warning}")
    dataset = Store(store, planned.manifest.dataset)
    with shard_progress() as show:
        built = run_build(planned, dataset, device, show, delivery or (), wait=True, batch=batch)
    if as_json:
        console.print_json(_built_facts(built, dataset))
    elif built.version is None:
        shards = f"{'the only shard' if built.reused == 1 else f'all {built.reused:,} shards'} of {planned.manifest.dataset}"
        console.out.print(f"nothing to do: version {dataset.version().number} has {shards}")
    else:
        _show_build(built)
    require_gate(planned, dataset)


def _built_facts(built: BuildReport, dataset: Store) -> dict[str, Any]:
    """A build for scripts. `version` is the newest one, whether the build made it or found nothing to do."""
    version = built.version or dataset.version()
    audit = built.audit
    return {
        "dataset": dataset.name,
        "version": version.number,
        "digest": version.digest,
        "is_new": built.version is not None,
        **{name: getattr(built, name) for name in ("made", "images", "reused", "dropped", "seconds", "rejected")},
        "failed": [{"shard": failure.shard.title, "reason": failure.reason} for failure in built.failures],
        "audit": None if audit is None else audit.as_data(),
        "deliveries": {name: delivered.as_data() for name, delivered in built.delivered.items()},
    }


def _show_build(built: BuildReport) -> None:
    assert built.version is not None
    console.out.print(
        f"version {built.version.number}: made {console.counted(built.made, 'shard')} ({console.counted(built.images, 'image')}, "
        f"{built.seconds:.1f} s), reused {built.reused:,}, dropped {built.dropped:,} stale; digest {built.version.digest}"
    )
    for failure in built.failures:
        console.out.print(f"  failed: {failure.shard.title}: {failure.reason}", markup=False)
    for subset, reasons in built.rejected.items():
        console.out.print(f"  {subset}: rejected " + ", ".join(f"{count} x {reason}" for reason, count in reasons.items()))
    if built.audit is not None:
        state = "" if built.audit.gate.judged else "not judged, which is no pass: "
        console.out.print(f"audit: {state}{built.audit.gate.reason} ({built.audit.seconds:.1f} s)", soft_wrap=True, markup=False)
        for verdict in built.audit.traces:
            if not verdict.passed:
                console.out.print(f"  {verdict.name}: {verdict.remedy}", soft_wrap=True, markup=False)
    for name, delivered in built.delivered.items():
        state = "" if delivered.gate.judged else "not judged, "
        console.out.print(f"audit of {name}: {state}{delivered.gate.reason}", soft_wrap=True, markup=False)


def _deliveries(planned: Plan, dataset: Store) -> dict[str, tuple[int, int]]:
    """For each delivery of the manifest how many of its shards are present, and how many it has."""
    from pipelines.build.build import status

    present = {shard.key for shard in status(planned, dataset, list(planned.manifest.deliveries)).present}
    own = {name: planned.deliveries([name]) for name in planned.manifest.deliveries}
    return {name: (sum(shard.key in present for shard in shards), len(shards)) for name, shards in own.items()}


def _show_subsets(planned: Plan, state: Status, delivered: Mapping[str, tuple[int, int]]) -> None:
    from pipelines.manifest.sizes import said

    manifest, present = planned.manifest, {shard.key for shard in state.present}
    retouched = any(subset.retouched for subset in manifest.subsets.values())
    counts = ("fakes", "retouched reals") if retouched else ("fakes",)
    table = console.table("subset", "mode", *counts, "real source", "shards", "present", title=f"{manifest.dataset}, {said(manifest.size)}")
    for name, subset in manifest.subsets.items():
        own = [shard for shard in planned.shards if shard.subset == name]
        ready = sum(shard.key in present for shard in own)
        sides = (f"{subset.fakes:,}", f"{subset.retouched:,}") if retouched else (f"{subset.fakes:,}",)
        table.add_row(name, subset.mode, *sides, ", ".join(subset.reals), str(len(own)), str(ready))
    console.out.print(table)
    console.out.print(
        f"{console.counted(len(manifest.subsets), 'subset')}, {_images_of(manifest)}, "
        f"{console.counted(len(planned.shards), 'shard')}: {len(state.present):,} present, {len(state.missing):,} to be made, "
        f"{len(state.stale):,} stale; about {_bytes(planned.estimated_bytes())} in all",
        soft_wrap=True,
    )
    if state.missing:
        console.out.print(_time(state), soft_wrap=True)
    for name, (there, of) in delivered.items():
        console.out.print(f"delivery {name}: {there:,} of {console.counted(of, 'shard')} present", soft_wrap=True, markup=False)


def _time(state: Status) -> str:
    """How long the missing shards will take on this machine, as far as earlier builds tell."""
    from pipelines.build import rates
    from pipelines.make.models import pick_device

    seconds, unknown = rates.estimate(pick_device(), state.missing)
    names = ", ".join(sorted(unknown))
    if not seconds:
        return f"No estimate of the time: this machine has not built {names or 'any of this'} yet."
    left_out = f", not counting {names}, which it has not built yet" if unknown else ""
    return f"They take about {timedelta(seconds=round(seconds))}, by earlier builds on this machine{left_out}."


def _as_data(planned: Plan, state: Status, stale: list[StaleShards]) -> dict[str, Any]:
    from pipelines.build import rates
    from pipelines.make.models import pick_device

    present = {shard.key for shard in state.present}
    return {
        "dataset": planned.manifest.dataset,
        "subsets": {
            name: {"fakes": subset.fakes, "retouched": subset.retouched, "mode": subset.mode, "reals": subset.reals}
            for name, subset in planned.manifest.subsets.items()
        },
        "shards": [
            {"title": shard.title, "key": shard.key, "images": shard.count, "present": shard.key in present} for shard in planned.shards
        ],
        "stale": [{"title": group.title, "keys": group.keys, "reasons": list(map(str, group.reasons))} for group in stale],
        "missing": [vars(missing) for missing in planned.missing],
        "warnings": list(planned.warnings),
        "bytes": planned.estimated_bytes(),
        "seconds": rates.estimate(pick_device(), state.missing)[0],
    }


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.1f} {unit}"

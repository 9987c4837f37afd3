"""The shortcut audit of a version or of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import console
from flows.commands.options import JsonOption, StoreOption, VersionOption
from pipelines.audit import Audit, audit_folder, audit_version, write_audit
from pipelines.errors import CheckFailed
from pipelines.store import Store


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf audit demo --version 2` · `ntf audit data/celeb-df --json`")(audit)


def audit(
    dataset: Annotated[str, typer.Argument(help="A dataset of the store, or a folder with `real/` and `fake/` in it.")],
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Can fake be told from real by what has nothing to do with forgery? Exit code 1 if the files themselves tell (the gate)."""
    if Path(dataset).is_dir() and not Store(store, dataset).exists():
        found = audit_folder(Path(dataset))
    else:
        held = Store(store, dataset)
        found = audit_version(held, version)
        write_audit(held, found)
    if as_json:
        console.out.print_json(json.dumps(found.as_data()))
    else:
        _show(found)
    if not found.gate.passed:
        raise CheckFailed(found.gate.reason)


def _show(found: Audit) -> None:
    table = Table("features", "AUC", "interval", "", title=f"{found.rows} images in {found.groups} groups, {found.seconds:.1f} s")
    for kind, verdict, findings in (("files", "[red]tells[/red]", found.container), ("pixels", "[yellow]tells[/yellow]", found.traces)):
        for each in findings:
            table.add_row(f"{kind}: {each.name}", f"{each.auc:.3f}", f"{each.low:.3f}-{each.high:.3f}", "" if each.passed else verdict)
    console.out.print(table)
    for each in found.traces:
        if not each.passed:
            console.out.print(f"{each.name}: {each.remedy}", soft_wrap=True, markup=False)
    if found.gate.passed:
        console.out.print(f"gate passed: {found.gate.reason}", soft_wrap=True, markup=False)

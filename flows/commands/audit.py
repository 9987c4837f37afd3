"""The shortcut audit of a version or of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flows import console
from flows.commands.options import DataArgument, DeliveryOption, JsonOption, StoreOption, VersionOption
from flows.progress import step_progress

if TYPE_CHECKING:
    from pipelines.audit import Audit


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf audit demo --version 2` · `ntf audit data/celeb-df --json`")(audit)


def audit(
    data: DataArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    delivery: DeliveryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Checks whether anything but the forgery tells fake from real: file format, size, compression, resampling, colour.

    The exit code is 1 if the files themselves tell, and 2 if there are too few images for a verdict. What the pixels tell (compression,
    resampling, colour, light) is shown and does not fail.
    """
    from flows.data import is_folder
    from foreign.errors import InputError
    from pipelines.audit import audit_folder, audit_version, write_audit
    from pipelines.errors import CheckFailed
    from pipelines.store import Store

    dataset = Store(store, data)
    if is_folder(data, store):
        if delivery:
            raise InputError(f"--delivery has no effect on {data}, which is a folder", "Leave it out, or `ntf deliver` the folder first")
        with step_progress("audit") as show:
            result = audit_folder(Path(data), show)
    else:
        with step_progress("audit") as show:
            result = audit_version(dataset, version, delivery or "", show)
        try:
            write_audit(dataset, result)
        except InputError as error:  # a store that may only be read is audited all the same
            console.err.print(f"[yellow]warning:[/yellow] {error.message}", soft_wrap=True)
    if as_json:
        console.print_json(result.as_data())
    else:
        _show(result)
    if not result.gate.judged:
        raise InputError(f"{data} is not judged: {result.gate.reason}", "Add images, or build more of them")
    if not result.gate.passed:
        raise CheckFailed(result.gate.reason)


def _show(result: Audit) -> None:
    title = f"{console.counted(result.rows, 'image')} in {console.counted(result.groups, 'group')}, {result.seconds:.1f} s"
    table = console.table("features", "AUC", "interval", "", title=title)
    for kind, verdict, families in (("files", "[red]tells[/red]", result.container), ("pixels", "[yellow]tells[/yellow]", result.traces)):
        for family in families:
            interval = f"{family.low:.3f}-{family.high:.3f}"
            table.add_row(f"{kind}: {family.name}", f"{family.auc:.3f}", interval, "" if family.passed else verdict)
    console.out.print(table)
    for family in result.traces:
        if not family.passed:
            console.out.print(f"{family.name}: {family.remedy}", soft_wrap=True, markup=False)
    if result.gate.passed:
        console.out.print(f"gate passed: {result.gate.reason}", soft_wrap=True, markup=False)

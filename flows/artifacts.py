"""What Prefect's page shows of a run beside its log: the ledger, a sheet of images, where the report is, and the progress of shards."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.logs import run_logger
from flows.outputs import Outputs
from foreign.text import markdown_text, visible
from pipelines.build.build import BuildReport
from pipelines.images import decode
from pipelines.store import Store

UPDATE_EVERY = 2.0  # seconds between updates of the progress bar
COLUMNS, MOST_ROWS = 4, 60  # of the sheet


def show_ledger(built: BuildReport, dataset: str) -> None:
    """The build as a table: what was written, what was rejected and why, what failed."""
    version = f"version {built.version.number}, digest {built.version.digest}" if built.version else "no new version"
    shards = f"{built.made:,} shards made, {built.reused:,} reused, {built.dropped:,} stale ones dropped, {len(built.failures):,} failed"
    description = f"{markdown_text(dataset)}: {version}; {shards}; {built.seconds:.0f} s."
    create_table_artifact(ledger_rows(built), key="ledger", description=description)


def ledger_rows(built: BuildReport) -> list[dict[str, Any]]:
    """The ledger's rows: subset, outcome, images."""
    rows: list[dict[str, Any]] = [_row("all", "written", built.images)]
    for subset, reasons in built.rejected.items():
        rows += [_row(subset, f"rejected: {reason}", count) for reason, count in reasons.items()]
    return rows + [
        _row(failure.shard.subset or failure.shard.title, f"failed: {failure.shard.title}: {failure.reason}", failure.shard.count)
        for failure in built.failures
    ]


def _row(subset: str, outcome: str, images: int) -> dict[str, Any]:
    return {"subset": visible(subset), "outcome": visible(outcome), "images": images}


def show_sheet(dataset: Store) -> None:
    """The first images of each part of a subset, under its name. As Markdown: of an image, Prefect's page also prints the address, which
    here is the image itself, in letters that run off the page."""
    name = markdown_text(dataset.name)
    create_markdown_artifact(
        f"![The first images of {name}]({sample_sheet(dataset)})", key="sheet", description=f"The first images of each subset of {name}"
    )


def sample_sheet(store: Store, columns: int = COLUMNS) -> str:
    """A row of the first `columns` images of every part of a subset, under the subset's name and the real source, as one picture in a data
    URI. At most `MOST_ROWS` parts are shown, and the last line says how many are not."""
    from pipelines.report.sheets import as_uri, labelled_sheet  # the whole report comes with it

    parts: dict[str, list[Any]] = {}
    for row in store.rows(f"role = 'final' AND `index` < {columns}", images=True):
        if row.image is not None:
            name = row.id.rsplit("/", 2)[0] if row.id.count("/") >= 2 else row.subset
            parts.setdefault(name, []).append(row)
    shown = list(parts.items())[:MOST_ROWS]
    rows = [(visible(name, 80), [decode(row.image, row.id) for row in members[:columns]]) for name, members in shown]
    more = len(parts) - len(shown)
    return as_uri(labelled_sheet(rows, f"and {more:,} more, which the report shows" if more else ""))


def show_report(page: Path, outputs: Outputs, dataset: Store) -> None:
    """Where the report is, as text: a page of the web may not open a file of this machine."""
    version = dataset.version()
    lines = [f"The report of **{markdown_text(dataset.name)}**, version {version.number} (digest `{version.digest[:16]}`), is one file:"]
    if outputs.place.is_local:
        place, where = str(page.resolve()), f"on the machine `{visible(socket.gethostname())}`. Open it there in a browser, or copy it."
    else:
        place, where = outputs.uri(page.name), "on the object storage. Copy it from there, and open it in a browser."
    description = f"Report of {markdown_text(dataset.name)}, version {version.number}"
    create_markdown_artifact("\n\n".join([*lines, f"    {visible(place, 1000)}", where]), key="report", description=description)


def show_shards(dataset: str) -> Callable[[int, int], None]:
    """A bar of shards, which the function that comes back sets to so many of so many. A server that is away is no reason to end."""
    bar = create_progress_artifact(0.0, key="shards", description=f"Shards of {markdown_text(dataset)}")
    updated = 0.0

    def update(done: int, total: int) -> None:
        nonlocal updated
        if done == total or time.monotonic() - updated > UPDATE_EVERY:
            updated = time.monotonic()
            try:
                update_progress_artifact(bar, 100 * done / total)
            except httpx.HTTPError as error:
                run_logger().warning("the progress cannot be shown: %s", error)

    return update

"""Look around: the demo, the generators, the detectors, the report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from flows import console, jobs
from flows.commands.options import DeviceOption, JsonOption, StoreOption, VersionOption
from generators import registry
from pipelines.catalogue import Catalogue
from pipelines.store import Store


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf demo` · `ntf demo --folder /tmp/demo`")(demo)
    app.command(epilog="Examples: `ntf generators` · `ntf generators --json`")(generators)
    app.command(epilog="Examples: `ntf detectors` · `ntf detectors --json`")(detectors)
    app.command(epilog="Examples: `ntf report demo` · `ntf report demo --version 2 --run runs/demo/ntf-1a2b`")(report)


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo's store, detector and report go.")] = Path("demo"),
    device: DeviceOption = "auto",
) -> None:
    """Builds, versions, trains and evaluates a small multi-step dataset, offline, in minutes on two CPU cores."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the bars say it already
    from flows.build_multistep import build_multistep

    torch.set_num_threads(1)  # networks this small lose more to waiting for a second thread than they gain by it
    result = build_multistep("demo", str(folder / "store"), str(folder / "runs"), device)
    console.out.print(
        f"version {result['version']}, digest {result['digest'][:16]}: {result['made']} shards made, {result['reused']} there already"
    )
    console.out.print(f"results: {result['run']}/results.md")
    console.out.print(f"report:  {result['report']}")


def generators(as_json: JsonOption = False) -> None:
    """The generators, what each can do, and which of its known checkpoints are on this machine."""
    catalogue = Catalogue.shipped()
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        kind = registry.get(name)
        known = [each for each, entry in catalogue.entries.items() if name in entry.generators]
        present = [each for each in known if not catalogue.missing(each)]
        rows.append(
            {"name": name, "title": kind.title, "family": kind.family, "steps": list(kind.steps), "present": present, "known": known}
        )
    if as_json:
        console.out.print_json(json.dumps(rows))
        return
    table = Table("generator", "family", "steps", "checkpoints here", "known")
    for row in rows:
        table.add_row(row["name"], row["family"], ", ".join(row["steps"]), ", ".join(row["present"]) or "none", str(len(row["known"])))
    console.out.print(table)


def detectors(as_json: JsonOption = False) -> None:
    """The detectors that can be trained and judged."""
    from ntf_model.detector import detector_names, get_detector

    rows = [{"name": name, "title": get_detector(name).title} for name in detector_names()]
    if as_json:
        console.out.print_json(json.dumps(rows))
        return
    table = Table("detector", "as the paper writes it")
    for row in rows:
        table.add_row(row["name"], row["title"])
    console.out.print(table)


def report(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    run: Annotated[list[Path] | None, typer.Option("--run", help="A folder that `ntf evaluate` wrote; may be repeated.")] = None,
    output: Annotated[Path, typer.Option("--output", help="The page.")] = Path("report.html"),
    features: Annotated[
        Path | None, typer.Option("--features", help="An .onnx network, RGB [N, 3, H, W] in [0, 1] to features [N, D]: adds FID and KID.")
    ] = None,
) -> None:
    """Writes one self-contained HTML page for a version of a dataset."""
    console.out.print(str(jobs.report(Store(store, dataset), output, version, tuple(run or ()), features=features)))

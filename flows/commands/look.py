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
from pipelines.catalogue.catalogue import Catalogue
from pipelines.store import Store


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf demo` · `ntf demo --folder /tmp/demo`")(demo)
    app.command(epilog="Examples: `ntf generators` · `ntf generators --json`")(generators)
    app.command(epilog="Examples: `ntf detectors` · `ntf detectors --json`")(detectors)
    app.command(epilog="Examples: `ntf report demo` · `ntf report demo --runs runs/ntf --compare runs/compare --ablation runs/ablation`")(
        report
    )


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo's store, detector and report go.")] = Path("demo"),
    device: DeviceOption = "auto",
) -> None:
    """Builds, versions, trains and evaluates a small multi-step dataset, offline, in minutes on two CPU cores."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the bars say it already
    from flows.build_multistep import build_multistep

    torch.set_num_threads(1)  # networks this small lose more to waiting for a second thread than they gain by it
    result = build_multistep("demo", str(folder / "store"), str(folder / "runs"), device, examine=True)
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
            {"name": name, "title": kind.title, "family": kind.family, "steps": list(kind.kinds), "present": present, "known": known}
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
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", "--runs", help="A folder that `ntf evaluate` wrote, and perhaps `robustness` and `explain`; may be repeated."
        ),
    ] = None,
    compare: Annotated[Path | None, typer.Option("--compare", help="The folder that `ntf compare` wrote.")] = None,
    ablation: Annotated[Path | None, typer.Option("--ablation", help="The folder that `ntf ablate` wrote.")] = None,
    history: Annotated[
        Path | None, typer.Option("--history", help="The folder in which the flow `refresh` notes its drifts: OUTPUT/DATASET.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="The page.")] = Path("report.html"),
    features: Annotated[
        Path | None, typer.Option("--features", help="An .onnx network, RGB [N, 3, H, W] in [0, 1] to features [N, D]: adds FID and KID.")
    ] = None,
) -> None:
    """Writes one self-contained HTML page for a version of a dataset.

    It shows what there is: of the store, subsets with their pictures, chains, quality and licences, ledger, audit, splits, versions and
    lineage; from the folders of `--runs`, results, robustness curves, Grad-CAM++ and embeddings; the tables of `--compare` and
    `--ablation`. What is left out is named at the page's end with the command that makes it.
    """
    from flows.drift import read_history

    drifts = read_history(history) if history else []
    page = jobs.report(Store(store, dataset), output, version, tuple(runs or ()), drifts, features, compare, ablation)
    console.out.print(str(page), soft_wrap=True)

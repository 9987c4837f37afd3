"""Look around: the demo, the generators, the detectors, the report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import console
from flows.commands.options import DatasetArgument, DeviceOption, JsonOption, StoreOption, VersionOption
from flows.progress import step_progress


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf demo` · `ntf demo --folder /tmp/demo`")(demo)
    app.command(epilog="Examples: `ntf generators` · `ntf generators --json`")(generators)
    app.command(epilog="Examples: `ntf detectors` · `ntf detectors --json`")(detectors)
    app.command(epilog="Examples: `ntf report demo` · `ntf report demo --runs runs/ntf --compare runs/compare --ablation runs/ablation`")(
        report
    )


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="The folder for the demo's store, detector and report.")] = Path("demo"),
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Builds a small dataset, trains a detector on it, evaluates it, and writes the report. Offline, in minutes on two CPU cores."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the bars say it already
    import torch

    from flows import temporary_server
    from flows.build_multistep import build_multistep

    temporary_server.stop_quietly()
    torch.set_num_threads(1)  # for networks this small, a second thread costs more time than it saves
    result = build_multistep("demo", str(folder / "store"), str(folder / "runs"), device, examine=True)
    if as_json:
        console.print_json(result)
        return
    shards = f"made {console.counted(result['made'], 'shard')}, {result['reused']:,} were there already"
    console.out.print(f"version {result['version']}, digest {result['digest'][:16]}: {shards}")
    console.out.print(f"results: {result['run']}/results.md", soft_wrap=True, markup=False)
    console.out.print(f"report:  {result['report']}", soft_wrap=True, markup=False)


def generators(as_json: JsonOption = False) -> None:
    """Lists the generators, what they can do, and which of their known checkpoints are on this machine."""
    from generators import registry
    from pipelines.catalogue.catalogue import Catalogue

    catalogue = Catalogue.shipped()
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        kind = registry.get(name)
        known = [checkpoint for checkpoint, entry in catalogue.entries.items() if name in entry.generators]
        present = [checkpoint for checkpoint in known if not catalogue.missing(checkpoint)]
        rows.append(
            {"name": name, "title": kind.title, "family": kind.family, "steps": list(kind.kinds), "present": present, "known": known}
        )
    if as_json:
        console.print_json(rows)
        return
    table = console.table("generator", "family", "steps", "checkpoints here", "known")
    for row in rows:
        table.add_row(row["name"], row["family"], ", ".join(row["steps"]), ", ".join(row["present"]) or "none", str(len(row["known"])))
    console.out.print(table)


def detectors(as_json: JsonOption = False) -> None:
    """Lists the detectors that can be trained and evaluated."""
    from ntf_model.registry import detector_names, get_detector

    rows = [{"name": name, "title": get_detector(name).title} for name in detector_names()]
    if as_json:
        console.print_json(rows)
        return
    table = console.table("detector", "as tables write it")
    for row in rows:
        table.add_row(row["name"], row["title"])
    console.out.print(table)


def report(
    dataset: DatasetArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", "--runs", help="Show the detector in this folder, which `ntf evaluate` wrote. May be given several times."),
    ] = None,
    compare: Annotated[Path | None, typer.Option("--compare", help="Show the tables in this folder, which `ntf compare` wrote.")] = None,
    ablation: Annotated[Path | None, typer.Option("--ablation", help="Show the table in this folder, which `ntf ablate` wrote.")] = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", help="Show the drifts that the flow `refresh` wrote to this folder, OUTPUT/DATASET."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="The HTML file to write.")] = Path("report.html"),
    features: Annotated[
        Path | None,
        typer.Option("--features", help="Add FID and KID by this .onnx network: RGB [N, 3, H, W] in [0, 1] to features [N, D]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Writes one HTML page about a version of a dataset. The page needs no other file.

    From the store it shows subsets with pictures, chains, quality, licences, ledger, audit, splits, versions and lineage. From `--run`
    it shows results, robustness curves, Grad-CAM++ and embeddings. Its end names what is left out, and the command that makes it.
    """
    from flows.drift import read_history
    from flows.report import write_page
    from pipelines.store import Store

    drifts = read_history(history) if history else []
    with step_progress("report") as show:
        page = write_page(Store(store, dataset), output, version, tuple(runs or ()), drifts, features, compare, ablation, show)
    if as_json:
        console.print_json({"report": page})
        return
    console.out.print(str(page), soft_wrap=True, markup=False)

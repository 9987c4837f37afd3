"""Train, judge and use detectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import console, jobs
from flows.commands.options import JsonOption, StoreOption, VersionOption, settings_of
from generators.errors import InputError
from ntf_model.detect import detect as find_fakes
from ntf_model.detector import load_detector
from ntf_model.ntf.ablation import chosen_variants

DataArgument = Annotated[str, typer.Argument(help="A dataset of the store, or a folder with real/ and fake/ in it.")]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="A SQL condition on the store's rows, such as \"subset = 'LDM' OR label = 0\".")
]
ScoresOption = Annotated[
    list[str] | None, typer.Option("--scores", help="NAME=FILE.csv (image id, score) of a detector from elsewhere; may be repeated.")
]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf train demo --preset demo` · `ntf train folder/ --detector wang2020 --set seed=1`")(train)
    app.command(epilog="Examples: `ntf evaluate demo --run runs/ntf --json` · `ntf evaluate demo --detectors ntf,sbi --scores theirs.csv`")(
        evaluate
    )
    app.command(
        epilog="Examples: `ntf compare demo` · `ntf compare faces.yaml --detectors ntf,sbi` · `ntf compare demo --preset default --limit 4`"
    )(compare)
    app.command(epilog="Examples: `ntf ablate demo --preset demo` · `ntf ablate faces --sources --breadth 1,6,18`")(ablate)
    app.command(epilog="Examples: `ntf robustness demo --run runs/ntf` · `ntf robustness faces --run runs/wang2020`")(robustness)
    app.command(epilog="Examples: `ntf explain demo --run runs/ntf` · `ntf explain faces --run runs/ntf --output pictures`")(explain)
    app.command(epilog="Examples: `ntf detect photo.jpg --model runs/ntf` · `ntf detect folder/ --model runs/ntf --json`")(detect)


def train(
    data: DataArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    detector: Annotated[str, typer.Option("--detector", help="One of `ntf detectors`.")] = "ntf",
    preset: Annotated[str | None, typer.Option("--preset", help="demo, default or paper.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting as NAME=VALUE; may be repeated.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The run's folder: weights, configuration, metrics; runs/DETECTOR if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state that a stopped run left.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, ...; the best there is if not given.")] = None,
) -> None:
    """Trains a detector on a version of the store, or on a folder of images."""
    splits = jobs.splits_of(data, store, version, where)
    chosen = {**({"preset": preset} if preset else {}), **settings_of(settings or [])}
    output = output or Path("runs") / detector
    with console.step_progress("train") as show:
        jobs.train_detector(detector, splits, output, chosen, resume=resume, device=device, on_progress=show)
    console.out.print(str(output))


def evaluate(
    data: DataArgument,
    run: Annotated[
        list[Path] | None, typer.Option("--run", help="A folder that `ntf train` wrote; may be repeated. runs/ntf if nothing is named.")
    ] = None,
    detectors: Annotated[str | None, typer.Option("--detectors", help="Names of runs in the folder --runs, by commas.")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="The folder of --detectors: runs, or runs/compare after `ntf compare`.")] = Path(
        "runs"
    ),
    scores: ScoresOption = None,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="Where results go; the run's folder, or that of the runs.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judges a trained detector on the test split, a row for each subset; several, and scores from elsewhere, side by side."""
    folders, files = _runs([*(run or []), *(runs / name for name in _names(detectors) or [])]), _files(scores or [])
    if not folders and not files:
        folders = {"ntf": Path("runs/ntf")}
    with console.step_progress("evaluate") as show:
        if len(folders) == 1 and not files:
            judged = jobs.judge_anywhere(next(iter(folders.values())), data, store, version, where, output, show)
            results, values = list(judged.files), judged.evaluation.model_dump_json(exclude={"scores"})
        else:
            into = output or (next(iter(folders.values())).parent if folders else Path("runs"))
            results = jobs.judge_together(folders, files, data, store, version, where, into, show)
            values = results[0].read_text(encoding="utf-8")
    if as_json:
        console.out.print_json(values)
        return
    console.out.print(next(file for file in results if file.suffix == ".md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def compare(
    data: Annotated[str, typer.Argument(help="A dataset of the store, a folder with real/ and fake/ in it, or a manifest.")],
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    detectors: Annotated[str | None, typer.Option("--detectors", help="Names of `ntf detectors`, by commas; all if not given.")] = None,
    scores: ScoresOption = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="demo, default (full size, nothing fetched) or paper; the manifest's, or demo.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=4, help="At most so many images in each split and one epoch: a rehearsal.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Runs and tables; what is trained there is taken over. runs/compare, with --limit runs/rehearsal."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, ...; the best there is if not given.")] = None,
) -> None:
    """Trains and judges several detectors on the same images, splits and thresholds, and lays them side by side."""
    subject, settings = jobs.subject_of(data, store)
    splits = jobs.splits_of(subject, store, version, where)
    settings = {**settings, **({"preset": preset} if preset else {})}
    into = output or Path("runs/rehearsal" if limit else "runs/compare")
    with console.step_progress("compare") as show:
        files = jobs.compare_detectors(
            splits, into, _names(detectors), settings, limit=limit, scores=_files(scores or []), device=device, on_progress=show
        )
    overview = next(file for file in files if file.suffix == ".md").read_text(encoding="utf-8").split("\n\n### ", 1)[0]
    console.out.print(overview + "\n", markup=False, soft_wrap=True)
    for file in files:
        console.out.print(str(file), soft_wrap=True)


def ablate(
    data: DataArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    preset: Annotated[str, typer.Option("--preset", help="demo, default or paper.")] = "demo",
    train_on: Annotated[str | None, typer.Option("--train-on", help="Subsets to train on, by commas; all if not given.")] = None,
    variants: Annotated[str | None, typer.Option("--variants", help="Rows of the table by name, by commas; all if not given.")] = None,
    sources: Annotated[bool, typer.Option("--sources", help="Also each subset as the only one to train on.")] = False,
    breadth: Annotated[str | None, typer.Option("--breadth", help="Also the first so many subsets, such as 1,6,18.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds.")] = 3,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting as NAME=VALUE; may be repeated.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Runs and the table.")] = Path("runs/ablation"),
) -> None:
    """NTF without each of its parts, with the paper's literal losses, and the ordinary classifier on the same data: one table."""
    splits = jobs.splits_of(data, store, version)
    chosen = {"preset": preset, **settings_of(settings or [])}
    if breadth and not breadth.replace(",", "").isdigit():
        raise InputError(f"--breadth {breadth} is no list of numbers", "Give such as 1,6,18")
    counts = [int(count) for count in breadth.split(",") if count] if breadth else []
    rows = chosen_variants(splits, variants.split(",") if variants else None, sources, counts)
    with console.step_progress("ablate") as show:
        files = jobs.ablate_ntf(splits, output, chosen, train_on.split(",") if train_on else None, range(seeds), rows, show)
    console.out.print(files[0].read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def robustness(
    data: DataArgument,
    run: Annotated[Path, typer.Option("--run", help="The folder that `ntf train` wrote.")] = Path("runs/ntf"),
    store: StoreOption = Path("store"),
    version: VersionOption = None,
) -> None:
    """Blur, JPEG, noise and scaling at one fixed threshold: a table and curves, in the run's folder."""
    with console.step_progress("robustness") as show:
        files = jobs.judge_robustness(run, jobs.splits_of(data, store, version), show)
    for file in files:
        console.out.print(str(file), soft_wrap=True)


def explain(
    data: DataArgument,
    run: Annotated[Path, typer.Option("--run", help="The folder that `ntf train` wrote; NTF only.")] = Path("runs/ntf"),
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="Where pictures go; the run's folder if not given.")] = None,
) -> None:
    """Grad-CAM++ by subset, a map of the embeddings, and the distance to the natural trace judged as a score."""
    for file in jobs.explain_ntf(run, jobs.splits_of(data, store, version), output or run):
        console.out.print(str(file), soft_wrap=True)


def detect(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    model: Annotated[Path, typer.Option("--model", help="The folder that `ntf train` wrote.")] = Path("runs/ntf"),
    as_json: JsonOption = False,
) -> None:
    """P(fake) and the distance to the natural trace of each image, with the threshold that validation fixed. JSON: one line an image."""
    found = find_fakes(paths, load_detector(model))
    if as_json:
        for row in found.rows:
            facts = {"file": str(row.file), "probability": row.probability, "distance": row.distance, "is_fake": row.is_fake}
            print(json.dumps({**facts, "threshold": row.threshold}))
        for file, reason in found.unreadable:
            print(json.dumps({"file": str(file), "error": reason}))
        return
    table = Table("image", "P(fake)", "distance to trace", "verdict")
    for row in found.rows:
        distance = "" if row.distance is None else f"{row.distance:.3f}"
        table.add_row(str(row.file), f"{row.probability:.3f}", distance, "fake" if row.is_fake else "real")
    console.out.print(table)
    for file, reason in found.unreadable:
        console.err.print(f"[yellow]not read:[/yellow] {file}: {reason}", soft_wrap=True)


def _names(text: str | None) -> list[str] | None:
    """Names by commas."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _runs(folders: list[Path]) -> dict[str, Path]:
    """Run folders by their own names."""
    named = {folder.resolve().name: folder for folder in folders}
    if len(named) < len(folders):
        raise InputError("two of the runs have folders of the same name", "Tables call a run by its folder: rename one")
    return named


def _files(pairs: list[str]) -> dict[str, Path]:
    """`NAME=FILE` pairs; a FILE alone is called by its stem."""
    split = [pair.rpartition("=") for pair in pairs]
    named = {name or Path(file).stem: Path(file) for name, _, file in split}
    if len(named) < len(pairs):
        raise InputError("two files of scores have the same name", "Write --scores NAME=FILE.csv")
    return named

"""Train, judge and use detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console, jobs
from flows.commands.options import JsonOption, StoreOption, VersionOption, settings_of

DataArgument = Annotated[str, typer.Argument(help="A dataset of the store, or a folder with real/ and fake/ in it.")]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="A SQL condition on the store's rows, such as \"subset = 'LDM' OR label = 0\".")
]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf train demo --preset demo` · `ntf train folder/ --detector wang2020 --set seed=1`")(train)
    app.command(epilog="Examples: `ntf evaluate demo --run runs/ntf` · `ntf evaluate midjourney/ --run runs/ntf --json`")(evaluate)


def train(
    data: DataArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    detector: Annotated[str, typer.Option("--detector", help="One of `ntf detectors`.")] = "ntf",
    preset: Annotated[str | None, typer.Option("--preset", help="demo, default or paper.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting as NAME=VALUE; may be repeated.")] = None,
    output: Annotated[Path, typer.Option("--output", help="The run's folder: weights, configuration, metrics.")] = Path("runs/ntf"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state that a stopped run left.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, ...; the best there is if not given.")] = None,
) -> None:
    """Trains a detector on a version of the store, or on a folder of images."""
    splits = jobs.splits_of(data, store, version, where)
    chosen = {**({"preset": preset} if preset else {}), **settings_of(settings or [])}
    with console.step_progress("train") as show:
        jobs.train_detector(detector, splits, output, chosen, resume=resume, device=device, on_progress=show)
    console.out.print(str(output))


def evaluate(
    data: DataArgument,
    run: Annotated[Path, typer.Option("--run", help="The folder that `ntf train` wrote.")] = Path("runs/ntf"),
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="Where results go; the run's folder if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judges a trained detector on the test split: a row for each subset, as Markdown, CSV, LaTeX, HTML and JSON."""
    splits = jobs.splits_of(data, store, version, where)
    with console.step_progress("evaluate") as show:
        judged = jobs.judge_detector(run, splits, output, show)
    if as_json:
        console.out.print_json(judged.evaluation.model_dump_json(exclude={"scores"}))
        return
    console.out.print(next(file for file in judged.files if file.suffix == ".md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)

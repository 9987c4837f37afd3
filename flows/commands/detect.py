"""Train and evaluate detectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import console
from flows.commands.options import (
    DataArgument,
    DeliveriesOption,
    EncoderOption,
    FprOption,
    GroupsOption,
    JsonOption,
    LabelsOption,
    SettingsOption,
    StoreOption,
    TrainingDeviceOption,
    VersionOption,
    WhereOption,
    detector_names,
    require_dataset,
    settings_of,
)
from flows.progress import step_progress
from generators.errors import InputError

if TYPE_CHECKING:
    from ntf_model.data.data import DetectionSplits

RunOption = Annotated[Path, typer.Option("--run", help="The folder of a trained detector, which `ntf train` wrote.")]
PresetOption = Annotated[str | None, typer.Option("--preset", help="The settings to start from: demo, default or paper.")]
ScoresOption = Annotated[
    list[str] | None,
    typer.Option("--scores", help="Scores of another program: NAME=FILE.csv with the columns id and score. May be given several times."),
]


SCORES = {"scores", "validation", "calibration"}  # columns of an evaluation with a value for every picture


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


def train(
    data: DataArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    detector: Annotated[
        str, typer.Option("--detector", help="The detector to train. `ntf detectors` lists them.", autocompletion=detector_names)
    ] = "ntf",
    preset: PresetOption = None,
    encoder: EncoderOption = None,
    settings: SettingsOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The folder for weights, configuration and metrics. If not given, runs/DETECTOR.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a stopped run was. It must have had the same data and settings.")
    ] = False,
    delivery: DeliveriesOption = None,
    device: TrainingDeviceOption = None,
    labels: LabelsOption = None,
    groups: GroupsOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Trains a detector on a dataset of the store, or on a folder of images. Delivered images are learnt from too if they are named."""
    from flows.judging import train_detector

    is_first = _speak_once()
    splits = _splits(data, store, version, where, labels, groups, delivery or ())
    chosen = {**({"preset": preset} if preset else {}), **_encoder(encoder), **settings_of(settings or [])}
    output = output or Path("runs") / detector
    with step_progress("train") as show:
        trained = train_detector(detector, splits, output, chosen, resume=resume, device=device, on_progress=show)
    if trained.note and is_first:
        console.err.print(f"{trained.title}: {trained.note}", markup=False, soft_wrap=True)
    if as_json:
        console.print_json({"run": output, "detector": detector, "note": trained.note or None})
        return
    console.out.print(str(output), soft_wrap=True, markup=False)


def evaluate(
    data: DataArgument,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="The folder of a trained detector. May be given several times. If nothing is named, runs/ntf."),
    ] = None,
    detectors: Annotated[
        str | None, typer.Option("--detectors", help="Names of trained detectors in the folder --runs, with commas between them.")
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", help="The folder of --detectors. `ntf compare` writes to runs/compare.")] = Path("runs"),
    scores: ScoresOption = None,
    fpr: FprOption = None,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The folder for the results. If not given, the folder of the detector or detectors.")
    ] = None,
    as_json: JsonOption = False,
    labels: LabelsOption = None,
    groups: GroupsOption = "auto",
) -> None:
    """Evaluates a trained detector on the test split: AP, ACC and more for every subset.

    A folder without splits is evaluated whole, except for what a detector was trained on. Several detectors, and scores of other programs,
    are put side by side in one table.
    """
    from flows.data import evaluation_of
    from flows.judging import evaluate_anywhere, evaluate_together

    folders, files = _runs([*(run or []), *(runs / name for name in _names(detectors) or [])]), _files(scores or [])
    if not folders and not files:
        folders = {"ntf": Path("runs/ntf")}
    pictures = evaluation_of(data, store, version, where, labels, groups, folders.values())
    console.say(pictures.notes)
    with step_progress("evaluate") as show:
        if len(folders) == 1 and not files:
            evaluated = evaluate_anywhere(next(iter(folders.values())), pictures, output, fpr=fpr, on_progress=show)
            results, values = list(evaluated.files), evaluated.evaluation.model_dump_json(exclude=SCORES)
        else:
            into = output or (next(iter(folders.values())).parent if folders else Path("runs"))
            results = evaluate_together(folders, files, pictures, into, fpr=fpr, on_progress=show)
            values = results[0].read_text(encoding="utf-8")
    if as_json:
        console.print_json(json.loads(values))
        return
    for file in [file for file in results if file.suffix == ".md"]:
        console.out.print(file.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def compare(
    data: Annotated[
        str,
        typer.Argument(
            help="The name of a dataset in the store, a folder with `real/` and `fake/` in it, or the manifest of a dataset.",
            callback=require_dataset,
        ),
    ],
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    where: WhereOption = None,
    detectors: Annotated[
        str | None, typer.Option("--detectors", help="Names from `ntf detectors`, with commas between them. If not given, all.")
    ] = None,
    scores: ScoresOption = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="The settings to start from: demo, default (full size, no downloads) or paper. If not given, the manifest's."
        ),
    ] = None,
    encoder: EncoderOption = None,
    fpr: FprOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=4, help="Try it out: at most this many images in every split, and one epoch.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="The folder for detectors and tables. A detector that is there already is not trained again. "
            "If not given, runs/compare, or runs/rehearsal with --limit.",
        ),
    ] = None,
    device: TrainingDeviceOption = None,
    labels: LabelsOption = None,
    groups: GroupsOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Trains and evaluates several detectors on the same images and splits, and puts them side by side in tables."""
    from flows.data import delivered_tests, is_folder, subject_of
    from flows.judging import compare_detectors
    from pipelines.store import Store

    is_first = _speak_once()
    subject, settings, taught = subject_of(data, store)
    splits = _splits(subject, store, version, where, labels, groups, taught)
    settings = {**settings, **({"preset": preset} if preset else {}), **_encoder(encoder)}
    into = output or Path("runs/rehearsal" if limit else "runs/compare")
    with step_progress("compare") as show:
        delivered = {} if is_folder(subject, store) else delivered_tests(Store(store, subject), version, where)
        files = compare_detectors(
            splits,
            into,
            _names(detectors),
            settings,
            limit=limit,
            scores=_files(scores or []),
            delivered=delivered,
            fpr=fpr,
            device=device,
            on_progress=show,
        )
    if not is_first:
        return
    if as_json:
        _print_results(files)
        return
    overview = _markdown(files).split("\n\n### ", 1)[0]
    console.out.print(overview + "\n", markup=False, soft_wrap=True)
    for file in files:
        console.out.print(str(file), soft_wrap=True)


def ablate(
    data: DataArgument,
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    preset: Annotated[str, typer.Option("--preset", help="The settings to start from: demo, default or paper.")] = "demo",
    train_on: Annotated[
        str | None, typer.Option("--train-on", help="Train on these subsets only, with commas between them. If not given, all.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option("--variants", help="Make only these rows of the table, with commas between their names.")
    ] = None,
    sources: Annotated[bool, typer.Option("--sources", help="Also train on every subset alone.")] = False,
    breadth: Annotated[
        str | None, typer.Option("--breadth", help="Also train on the first N subsets, for every N in this list, such as 1,6,18.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Train every row with this many seeds.")] = 3,
    encoder: EncoderOption = None,
    settings: SettingsOption = None,
    output: Annotated[Path, typer.Option("--output", help="The folder for the trained detectors and the table.")] = Path("runs/ablation"),
    labels: LabelsOption = None,
    groups: GroupsOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Shows what every part of NTF contributes: trains NTF without it, and evaluates all in one table.

    The table also has the losses exactly as the paper prints them, and an ordinary classifier on the same data.
    """
    from flows.judging import ablate_ntf
    from ntf_model.ntf.ablation import chosen_variants
    from ntf_model.runs import ABLATION_FILE

    is_first = _speak_once()
    if breadth and not breadth.replace(",", "").isdigit():
        raise InputError(f"--breadth {breadth} is not a list of numbers", "Write numbers with commas between them, such as 1,6,18")
    splits = _splits(data, store, version, None, labels, groups)
    chosen = {"preset": preset, **_encoder(encoder), **settings_of(settings or [])}
    counts = [int(count) for count in breadth.split(",") if count] if breadth else []
    rows = chosen_variants(splits, _names(variants), sources, counts)
    with step_progress("ablate") as show:
        files = ablate_ntf(splits, output, chosen, _names(train_on), range(seeds), rows, show)
    if not is_first:
        return
    if as_json:
        _print_results(files, output / ABLATION_FILE)
        return
    console.out.print(_markdown(files), markup=False, soft_wrap=True)


def robustness(
    data: DataArgument,
    run: RunOption = Path("runs/ntf"),
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    labels: LabelsOption = None,
    groups: GroupsOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Evaluates a detector on blurred, compressed, noisy and scaled images, with its threshold unchanged.

    The table and the curves go to the detector's folder.
    """
    from flows.judging import measure_robustness
    from ntf_model.runs import ROBUSTNESS_FILE

    splits = _splits(data, store, version, None, labels, groups)
    with step_progress("robustness") as show:
        files = measure_robustness(run, splits, show)
    if as_json:
        _print_results(files, run / ROBUSTNESS_FILE)
        return
    for file in files:
        console.out.print(str(file), soft_wrap=True)


def explain(
    data: DataArgument,
    run: Annotated[Path, typer.Option("--run", help="The folder of a trained NTF, which `ntf train` wrote.")] = Path("runs/ntf"),
    store: StoreOption = Path("store"),
    version: VersionOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="The folder for the pictures. If not given, the detector's.")] = None,
    labels: LabelsOption = None,
    groups: GroupsOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Draws where NTF looks (Grad-CAM++, by subset) and how it arranges images (a map of the embeddings).

    It also evaluates the distance to the natural trace as a score of its own.
    """
    from flows.judging import explain_ntf

    splits = _splits(data, store, version, None, labels, groups)
    with step_progress("explain") as show:
        files = explain_ntf(run, splits, output or run, show)
    if as_json:
        _print_results(files)
        return
    for file in files:
        console.out.print(str(file), soft_wrap=True)


def _speak_once() -> bool:
    """Whether this process is the first, or the only one. Under `accelerate launch` every process runs the whole command, and only the
    first one says what it does and what came out."""
    from ntf_model.training.resume import is_first_process

    is_first = is_first_process()
    if not is_first:
        console.only_errors()
    return is_first


def _splits(
    data: str,
    store: Path,
    version: str | None,
    where: str | None,
    labels: str | None,
    groups: str,
    deliveries: Sequence[str] = (),
) -> DetectionSplits:
    """The splits of a dataset or folder; what is left out of them, and how they were divided, is said."""
    from flows.data import splits_of

    splits = splits_of(data, store, version, where, labels, groups, deliveries)
    console.say(splits.notes)
    return splits


def _markdown(files: list[Path]) -> str:
    """The text of the first Markdown file among `files`: the table that a person reads."""
    return next(file for file in files if file.suffix == ".md").read_text(encoding="utf-8")


def _print_results(files: list[Path], facts: Path | None = None) -> None:
    """JSON for scripts: the results that lie in `facts` (if not given, in the first JSON file), and all files that were written."""
    source = facts or next((file for file in files if file.suffix == ".json"), None)
    results = json.loads(source.read_text(encoding="utf-8")) if source else None
    console.print_json({"results": results, "files": files})


def _encoder(name: str | None) -> dict[str, str]:
    """The option `--encoder` as a setting."""
    return {"encoder": name} if name else {}


def _names(text: str | None) -> list[str] | None:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _runs(folders: list[Path]) -> dict[str, Path]:
    """Run folders by their own names."""
    named = {folder.resolve().name: folder for folder in folders}
    if len(named) < len(folders):
        raise InputError("two of the runs have folders of the same name", "Rename one of them: tables call a run by its folder")
    return named


def _files(pairs: list[str]) -> dict[str, Path]:
    """`NAME=FILE` pairs. A FILE alone is called by its stem."""
    split = [pair.rpartition("=") for pair in pairs]
    named = {name or Path(file).stem: Path(file) for name, _, file in split}
    if len(named) < len(pairs):
        raise InputError("two files of scores have the same name", "Name them: --scores NAME=FILE.csv")
    return named

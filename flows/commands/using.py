"""Use trained detectors: verdicts on images, and leaderboards that others can check."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import console
from flows.commands.options import FprOption, JsonOption
from flows.progress import step_progress
from generators.errors import InputError

if TYPE_CHECKING:
    from ntf_model.detect import FileDetection


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf detect photo.jpg --model runs/ntf` · `ntf detect folder/ --model runs/ntf --csv`")(detect)
    app.command(epilog="Examples: `ntf onnx runs/ntf ntf.onnx` · `ntf onnx runs/probe probe.onnx --json`")(onnx)
    app.command(name="app", epilog="Examples: `ntf app runs/ntf` · `ntf app runs/ntf --port 0`")(serve_page)
    app.command(epilog="Examples: `ntf leaderboard runs` · `ntf leaderboard runs --per-generator --output board`")(leaderboard)


def detect(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    model: Annotated[Path, typer.Option("--model", help="The folder of a trained detector, which `ntf train` wrote.")] = Path("runs/ntf"),
    fpr: FprOption = None,
    error: Annotated[
        float | None,
        typer.Option(
            "--error",
            help="The stated error: of real images at most this share is called fake, and of fakes at most this share real. Images for "
            "which that allows neither are unsure. If not given, 0.05.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for every image.", rich_help_panel="For scripts")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with a header and one line for every image.", rich_help_panel="For scripts")
    ] = False,
) -> None:
    """Tells for every image how probably it is fake, and how far it is from the natural trace.

    "Calibrated" is P(fake) at the temperature that fits the validation images of training. The verdict is "unsure" where the stated error
    allows neither class.
    Rows are in the order in which the images are given. One that cannot be read has its error in its place, and the command ends with exit
    code 1.
    """
    from foreign.text import as_csv_cell
    from ntf_model.detect import detect as detect_fakes
    from ntf_model.registry import load_detector

    if as_json and as_csv:
        raise InputError("--json and --csv cannot both be given", "Leave one of them out")
    detector = load_detector(model)
    if fpr is not None:
        detector.at_fpr(fpr)
    if error is not None:
        detector.with_error(error)
    with step_progress("detect") as show:
        result = detect_fakes(paths, detector, on_progress=show)
    console.say([*result.notes, detector.verdicts_said])
    if as_json:
        for row in result.rows:
            console.out.print(json.dumps(_facts(row)), markup=False, soft_wrap=True)
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, [*DETECTED, "error"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: as_csv_cell(value) for key, value in _facts(row).items()} for row in result.rows)
    else:
        _print_rows(result.rows)
    if result.unreadable:
        raise typer.Exit(1)


def _facts(row: FileDetection) -> dict[str, Any]:
    """A row for scripts: what is known of an image, or the error."""
    if row.error:
        return {"file": str(row.file), "error": row.error}
    return {name: str(row.file) if name == "file" else getattr(row, name) for name in DETECTED}


DETECTED = ("file", "probability", "distance", "is_fake", "threshold", "calibrated", "verdict")
WHOLE = 1 << 20  # letters: no name of a file loses its middle


def _print_rows(rows: Iterable[FileDetection]) -> None:
    """A line for each image with its whole name, however narrow the terminal is; errors on standard error."""
    from foreign.text import visible

    console.out.print("P(fake)  calibrated  distance  verdict  image")
    for row in rows:
        name = visible(row.file, WHOLE)
        if row.error:
            console.out.print(f"{'–':>7}  {'–':>10}  {'–':>8}  {'–':<7}  {name}", markup=False, soft_wrap=True)
            console.err.print(f"not read: {row.error}", markup=False, soft_wrap=True)
            continue
        distance, calibrated = ("–" if value is None else f"{value:.3f}" for value in (row.distance, row.calibrated))
        console.out.print(
            f"{row.probability:>7.3f}  {calibrated:>10}  {distance:>8}  {row.verdict:<7}  {name}", markup=False, soft_wrap=True
        )


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="A folder with score matrices, which `ntf evaluate` and `ntf compare` write.")],
    per_generator: Annotated[bool, typer.Option("--per-generator", help="Also show every generator by itself.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="Also write every table to this folder, as Markdown, CSV, LaTeX, HTML and JSON.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Makes every table, interval and rank again from score matrices alone, without pictures or a GPU.

    Matrices of one test split stand together in one table. Generators that no detector was trained on are averaged apart from the others,
    and the worst of each group stands beside its mean.
    """
    from flows.judging import board_facts, board_tables, write_boards
    from foreign.text import escape_controls
    from ntf_model.comparing.leaderboard import read_leaderboard

    found = read_leaderboard(folder)
    console.say(found.notes)
    files = write_boards(found, output) if output else []
    if as_json:
        console.print_json([board_facts(board) for board in found.boards])
        return
    for board in found.boards:
        for table in board_tables(board, per_generator):
            console.out.print(escape_controls(table), markup=False, soft_wrap=True)
    for file in files:
        console.out.print(str(file), soft_wrap=True, markup=False)


def onnx(
    run: Annotated[Path, typer.Argument(help="The folder of a trained detector, which `ntf train` wrote.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Writes a detector as one ONNX file that takes an image as it is: crops, normalisation and calibration are inside.

    The file is written only if onnxruntime gives the detector's own probabilities and distances again, to 1e-4.
    """
    from flows.judging import export_onnx

    largest = export_onnx(run, file)
    if as_json:
        console.print_json({"file": str(file), "difference": largest})
        return
    console.out.print(f"{file}: onnxruntime differs from the detector by at most {largest:.1e}", markup=False, soft_wrap=True)


def serve_page(
    run: Annotated[Path, typer.Argument(help="The folder of a trained detector, which `ntf train` wrote.")] = Path("runs/ntf"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port on this machine. 0 takes a free one.")] = 8080,
    fpr: FprOption = None,
) -> None:
    """Opens a page on this machine on which you drop an image, and get the verdict, the map, and what the file says of itself.

    It needs the extra `app` (NiceGUI). Only this machine can reach it, and no image leaves it. Ctrl-C ends it.
    """
    from flows.app import serve
    from ntf_model.registry import load_detector

    detector = load_detector(run, "cpu")
    if fpr is not None:
        detector.at_fpr(fpr)
    serve(detector, str(run), port, lambda address: console.out.print(f"open {address}", markup=False, soft_wrap=True))

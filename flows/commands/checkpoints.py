"""Checkpoints: what is known, what a file holds, and training small ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import console
from flows.commands.options import JsonOption, generator_names, settings_of
from flows.progress import step_progress

SCREEN_CLASSES, SCREEN_SETTINGS, SCREEN_TENSORS, SCREEN_FILES, SCREEN_WIDTH = 4, 8, 8, 16, 100  # what one screen of `inspect` holds
ADD_EXAMPLES = (
    "Examples: `ntf checkpoint add new.pkl --generator stylegan2 --licence CC-BY-4.0` · "
    "`ntf checkpoint add swap.safetensors --generator simswap --name simswap-demo-32 --licence Apache-2.0`"
)
TRAINABLE = (
    "The generator to train: progan, stylegan2, projected_gan, vqgan, diff_stylegan2, simswap, ddpm, ldm, stable_diffusion or diffface."
)
app = typer.Typer(no_args_is_help=True, help="Lists, inspects, converts and adds checkpoints.")
FileArgument = Annotated[Path, typer.Argument(help="A checkpoint in any form that the generators read.")]


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="checkpoint")
    examples = "`ntf train-generator ddpm mine.safetensors --folder photos` · `ntf train-generator ldm out.safetensors --steps 200`"
    parent.command("train-generator", epilog=f"Examples: {examples}")(train_generator)


@app.command("list", epilog="Examples: `ntf checkpoint list` · `ntf checkpoint list --json`")
def list_known(as_json: JsonOption = False) -> None:
    """Lists the known checkpoints: of which generators, the memory of their weights, trained on what, under which licence, and whether they
    are on this machine."""
    from pipelines.catalogue.catalogue import Catalogue

    catalogue = Catalogue.shipped()
    if as_json:
        console.print_json({name: entry.model_dump(mode="json") for name, entry in catalogue.entries.items()})
        return
    table = console.table("checkpoint", "generators", "px", "GiB", "trained on", "licence", "here")
    for name, entry in catalogue.entries.items():
        here = "yes" if not catalogue.missing(name) else "no"
        memory = "" if entry.memory is None else f"{entry.memory:.1f}"
        table.add_row(name, ", ".join(entry.generators), str(entry.resolution or ""), memory, entry.trained_on or "", entry.licence, here)
    console.out.print(table)


@app.command(epilog="Examples: `ntf checkpoint inspect network.pkl` · `ntf checkpoint inspect last.ckpt --json`")
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint in any form that the generators read: a file or a folder.")],
    everything: Annotated[bool, typer.Option("--all", help="Show every tensor, class and setting, and not one screen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Shows what is inside a checkpoint: its form, the classes that it names, its configuration and tensors. Executes nothing of it."""
    from generators.checkpoints import inspect as look_into
    from generators.checkpoints.folders import folder_files

    names = [name for name in folder_files(file) if name.endswith((".safetensors", ".bin"))] if file.is_dir() else [""]
    reports = [look_into(file / name if name else file) for name in names]
    if as_json:
        console.print_json({"path": str(file), "form": "folder", "files": reports} if file.is_dir() else reports[0])
        return
    if file.is_dir():
        listed = ", ".join(folder_files(file))
        console.out.print(f"{file}: a folder; of it are read {listed}", markup=False, soft_wrap=True)
    if len(reports) > 1 and not everything:
        _show_files(reports, file)
        return
    for report in reports:
        _show_contents(report, everything)


def _show_files(reports: list[dict[str, Any]], folder: Path) -> None:
    """The files of weights in a folder, one line for each."""
    table = console.table("file", "form", "tensors", "numbers", "dtype")
    for report in reports[:SCREEN_FILES]:
        tensors, title = report["tensors"], Path(report["path"]).relative_to(folder).as_posix()
        table.add_row(console.cell(title), report["form"], f"{len(tensors):,}", f"{_numbers(tensors):,}", _dtypes(tensors))
    console.out.print(table)
    _say_more(len(reports) - SCREEN_FILES, "file")
    console.out.print("`--all` shows the tensors of each", markup=False)


def _numbers(tensors: list[dict[str, Any]]) -> int:
    return sum(math.prod(tensor["shape"]) for tensor in tensors)


def _dtypes(tensors: list[dict[str, Any]]) -> str:
    return ", ".join(sorted({tensor["dtype"] for tensor in tensors}))


def _show_contents(report: dict[str, Any], everything: bool) -> None:
    """The contents of one file, on one screen unless `everything` is wanted."""
    tensors = report["tensors"]
    counts = f"{console.counted(len(tensors), 'tensor')}, {_numbers(tensors):,} numbers ({_dtypes(tensors)})"
    console.out.print(f"{report['path']}: {report['form']}, {counts}", markup=False, soft_wrap=True)
    classes = report["globals"] if everything else report["globals"][:SCREEN_CLASSES]
    for name in classes:
        console.out.print(f"  names the class {name}", markup=False)
    _say_more(len(report["globals"]) - len(classes), "class", "classes")
    config = json.dumps(report["config"], indent=1, default=str).splitlines() if report["config"] else []
    shown = config if everything else config[:SCREEN_SETTINGS]
    for line in shown:
        console.out.print(line if everything else line[:SCREEN_WIDTH], markup=False, soft_wrap=True)
    _say_more(len(config) - len(shown), "line of its configuration", "lines of its configuration")
    rows = tensors if everything else tensors[:SCREEN_TENSORS]
    table = console.table("tensor", "shape", "dtype")
    for tensor in rows:
        table.add_row(console.cell(tensor["name"]), " x ".join(str(side) for side in tensor["shape"]) or "scalar", tensor["dtype"])
    console.out.print(table)
    _say_more(len(tensors) - len(rows), "tensor")


def _say_more(count: int, noun: str, plural: str = "") -> None:
    if count > 0:
        console.out.print(f"  and {console.counted(count, noun, plural)} more: `--all` shows them", markup=False)


@app.command(
    "convert", epilog="Examples: `ntf checkpoint convert ffhq.pkl ffhq.safetensors` · `ntf checkpoint convert last.ckpt vqgan.safetensors`"
)
def to_safetensors(
    file: FileArgument,
    output: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Writes a checkpoint as safetensors. The tensors keep their names, and the configuration goes into the header."""
    from generators.checkpoints import convert

    contents = convert(file, output)
    if as_json:
        console.print_json({"checkpoint": output, "tensors": len(contents.tensors), "form": contents.form})
        return
    console.out.print(f"{output}: {console.counted(len(contents.tensors), 'tensor')}, read as {contents.form}", markup=False)


@app.command(epilog=ADD_EXAMPLES)
def add(
    file: Annotated[Path, typer.Argument(help="The checkpoint to register: a file, or a folder as diffusers saves it.")],
    generator: Annotated[
        str,
        typer.Option(
            "--generator", help="The generator that the weights are for. `ntf generators` lists them.", autocompletion=generator_names
        ),
    ],
    licence: Annotated[str, typer.Option("--licence", help="The licence of the weights.")],
    name: Annotated[str | None, typer.Option("--name", help="The name for manifests. If not given, the file's name.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="The images that the weights were trained on.")] = None,
    components: Annotated[
        list[str] | None,
        typer.Option("--component", help="Another checkpoint that this one needs: ROLE=CHECKPOINT. May be given several times."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="A setting that is not in the file: NAME=VALUE. May be given several times."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Registers a checkpoint, so that manifests can name it: reads it safely, notes its sha256, and makes a test image.

    If a Prefect server runs the flow `refresh`, it starts for the new checkpoint.
    """
    from flows.events import announce
    from pipelines.catalogue.catalogue import Catalogue
    from pipelines.catalogue.registering import Registration, add_checkpoint

    described = Registration(
        name=name or (file.resolve().name if file.is_dir() else file.stem),
        generator=generator,
        licence=licence,
        trained_on=dataset,
        components=settings_of(components or [], "--component"),
        options=settings_of(options or [], "--option"),
    )
    added = add_checkpoint(file, described, Catalogue.shipped())
    is_announced = announce(added)
    if as_json:
        console.print_json(
            {"name": added.name, "path": added.path, "sha256": added.sha256, "preview": added.preview, "announced": is_announced}
        )
        return
    console.out.print(f"{added.name}: {added.path}, sha256 {added.sha256[:16]}", markup=False, soft_wrap=True)
    if added.preview:
        console.out.print(f"test image: {added.preview}", markup=False, soft_wrap=True)
    if is_announced:
        console.out.print("The Prefect server knows of it: `refresh` starts where it is deployed.")


def train_generator(
    name: Annotated[str, typer.Argument(help=TRAINABLE)],
    output: Annotated[Path, typer.Argument(help="The checkpoint to write (.safetensors). Its model card goes beside it.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="A folder of images to learn from. If not given, the demo's pictures.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="How many training steps. If not given, as many as for the demo.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The seed of the whole run.")] = 0,
    size: Annotated[
        int, typer.Option("--size", help="The side of the images in pixels: a multiple of 8, and for most GANs a power of two.")
    ] = 32,
    as_json: JsonOption = False,
) -> None:
    """Trains a small generator. If it is stopped, the same command goes on where it was."""
    from generators.training.train import train_generator as train

    with step_progress(name) as show:

        def show_state(state: object) -> None:
            show(getattr(state, "step", 0), getattr(state, "steps", 0), str(state))

        train(name, output, folder, steps=steps, seed=seed, size=size, on_progress=show_state)
    if as_json:
        console.print_json({"checkpoint": output})
        return
    console.out.print(str(output), soft_wrap=True, markup=False)

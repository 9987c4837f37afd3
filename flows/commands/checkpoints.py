"""Checkpoints: what is known, what a file holds, and training small ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import console
from flows.commands.options import JsonOption, settings_of
from flows.events import announce
from generators.checkpoints import convert
from generators.checkpoints import inspect as look_into
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.registering import Registration, add_checkpoint

ADD_EXAMPLES = (
    "Examples: `ntf checkpoint add new.pkl --generator stylegan2 --licence CC-BY-4.0` · "
    "`ntf checkpoint add swap.safetensors --generator simswap --name simswap-demo-32 --licence Apache-2.0`"
)
TRAINABLE = "progan, stylegan2, projected_gan, vqgan, diff_stylegan2, simswap, ddpm, ldm, stable_diffusion or diffface."
app = typer.Typer(no_args_is_help=True, help="Checkpoints: list, inspect, convert, add.")


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="checkpoint")
    examples = "`ntf train-generator ddpm mine.safetensors --folder photos` · `ntf train-generator ldm out.safetensors --steps 200`"
    parent.command("train-generator", epilog=f"Examples: {examples}")(train_generator)


@app.command("list", epilog="Examples: `ntf checkpoint list` · `ntf checkpoint list --json`")
def list_known(as_json: JsonOption = False) -> None:
    """All known checkpoints: whose, trained on what, under which licence, and whether they are on this machine."""
    catalogue = Catalogue.shipped()
    if as_json:
        console.out.print_json(json.dumps({name: entry.model_dump(mode="json") for name, entry in catalogue.entries.items()}))
        return
    table = Table("checkpoint", "generators", "px", "trained on", "licence", "here")
    for name, entry in catalogue.entries.items():
        here = "yes" if not catalogue.missing(name) else "no"
        table.add_row(name, ", ".join(entry.generators), str(entry.resolution or ""), entry.trained_on or "", entry.licence, here)
    console.out.print(table)


@app.command(epilog="Examples: `ntf checkpoint inspect network.pkl` · `ntf checkpoint inspect last.ckpt --json`")
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint in any of the forms that generators read.")], as_json: JsonOption = False
) -> None:
    """What is inside a checkpoint: form, classes that it names, configuration, tensors. Nothing in it is executed."""
    found = look_into(file)
    if as_json:
        console.out.print_json(json.dumps(found, default=str))
        return
    console.out.print(f"{found['path']}: {found['form']}, {len(found['tensors'])} tensors", markup=False)
    for name in found["globals"]:
        console.out.print(f"  names {name}", markup=False)
    if found["config"]:
        console.out.print(json.dumps(found["config"], indent=1, default=str), markup=False)
    table = Table("tensor", "shape", "dtype")
    for tensor in found["tensors"]:
        table.add_row(tensor["name"], " x ".join(str(side) for side in tensor["shape"]) or "scalar", tensor["dtype"])
    console.out.print(table)


@app.command(
    "convert", epilog="Examples: `ntf checkpoint convert ffhq.pkl ffhq.safetensors` · `ntf checkpoint convert last.ckpt vqgan.safetensors`"
)
def to_safetensors(
    file: Annotated[Path, typer.Argument(help="A checkpoint in any of the forms that generators read.")],
    output: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
) -> None:
    """Writes a checkpoint as safetensors, names unchanged, with its configuration in the header."""
    contents = convert(file, output)
    console.out.print(f"{output}: {len(contents.tensors)} tensors from a file of the form {contents.form}", markup=False)


@app.command(epilog=ADD_EXAMPLES)
def add(
    file: Annotated[Path, typer.Argument(help="The file to take in.")],
    generator: Annotated[str, typer.Option("--generator", help="Whose weights these are.")],
    licence: Annotated[str, typer.Option("--licence", help="Under which terms they are used.")],
    name: Annotated[str | None, typer.Option("--name", help="The name that manifests use; the file's own if not given.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="What it was trained on.")] = None,
    components: Annotated[list[str] | None, typer.Option("--component", help="ROLE=CHECKPOINT; may be repeated.")] = None,
    options: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE that the file cannot say of itself.")] = None,
) -> None:
    """Registers a checkpoint: sha256, safe reading, a test image. A running server starts `refresh` for it."""
    described = Registration(
        name=name or file.stem,
        generator=generator,
        licence=licence,
        trained_on=dataset,
        components=settings_of(components or []),
        options=settings_of(options or []),
    )
    added = add_checkpoint(file, described, Catalogue.shipped())
    console.out.print(f"{added.name}: {added.path}, sha256 {added.sha256[:16]}", markup=False)
    if added.preview:
        console.out.print(f"test image: {added.preview}", markup=False)
    if announce(added):
        console.out.print("told the Prefect server: refresh will start where it is deployed")


def train_generator(
    name: Annotated[str, typer.Argument(help=TRAINABLE)],
    output: Annotated[Path, typer.Argument(help="The checkpoint to write (.safetensors); its model card goes beside it.")],
    folder: Annotated[Path | None, typer.Option("--folder", help="Images to learn from; without it, the demo's own pictures.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps; the demo's number if not given.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The seed of the whole run.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of the images in pixels: a multiple of 8; a power of two for most GANs.")] = 32,
) -> None:
    """Trains a small generator. Stop it and run the same command again: it goes on where it was."""
    from generators.training.train import train_generator as train

    with console.progress() as bars:
        bar = bars.add_task(name, total=steps)

        def show(state: object) -> None:
            bars.update(bar, completed=getattr(state, "step", 0), total=getattr(state, "steps", None), description=f"{name}: {state}")

        train(name, output, folder, steps=steps, seed=seed, size=size, on_progress=show)
    console.out.print(str(output))

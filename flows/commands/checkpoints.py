"""Checkpoints: what is known, what a file holds, and training small ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows import console
from flows.commands.options import JsonOption
from pipelines.catalogue import Catalogue

app = typer.Typer(no_args_is_help=True, help="Checkpoints: list, inspect, convert.")


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


def train_generator(
    name: Annotated[str, typer.Argument(help="ddpm, ldm, stylegan2 or simswap.")],
    output: Annotated[Path, typer.Argument(help="The checkpoint to write (.safetensors); its model card goes beside it.")],
    folder: Annotated[Path | None, typer.Option("--folder", help="Images to learn from; without it, the demo's own pictures.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps; the demo's number if not given.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The seed of the whole run.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of the images in pixels, a multiple of 8.")] = 32,
) -> None:
    """Trains a small generator. Stop it and run the same command again: it goes on where it was."""
    from generators.training.train import train_generator as train

    with console.progress() as bars:
        bar = bars.add_task(name, total=steps)

        def show(state: object) -> None:
            bars.update(bar, completed=getattr(state, "step", 0), total=getattr(state, "steps", None), description=f"{name}: {state}")

        train(name, output, folder, steps=steps, seed=seed, size=size, on_progress=show)
    console.out.print(str(output))

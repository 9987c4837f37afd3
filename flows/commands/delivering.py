"""Pictures as they are met: a folder, delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import JsonOption
from flows.progress import step_progress


def add_to(app: typer.Typer) -> None:
    examples = "`ntf deliver photos/ shared/ --recipe feed` · `ntf deliver test/ hard/ --recipe feed,messenger,screenshot --seed 1`"
    app.command(epilog=f"Examples: {examples}")(deliver)


def deliver(
    folder: Annotated[Path, typer.Argument(help="The folder with the pictures, at any depth.")],
    output: Annotated[Path, typer.Argument(help="The folder to write. It must not exist yet.")],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="What happens to them: feed, messenger, screenshot, site, edited or stripped, several with commas between them, one after "
            "the other; or a YAML file with a list of steps.",
        ),
    ],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed gives other draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Does to every picture of a folder what happens to a picture that is shared: made smaller, compressed again, shown on a screen.

    Each is drawn for by the seed of its own content, so that the same picture comes out the same, whatever lies beside it. Places and
    folders of classes stay. The exit code is 1 if a picture cannot be read.
    """
    from pipelines.delivery.folder import INDEX, deliver_folder
    from pipelines.manifest.deliveries import expanded, read_delivery

    with step_progress("deliver") as show:
        done = deliver_folder(folder, output, expanded(read_delivery(recipe)), seed, show)
    for line in done.unreadable:
        console.err.print(f"not read: {line}", markup=False, soft_wrap=True)
    if as_json:
        console.print_json(vars(done))
        raise typer.Exit(1 if done.unreadable else 0)
    if done.left_out:
        console.out.print(done.left_out, markup=False, soft_wrap=True)
    console.out.print(f"{console.counted(done.pictures, 'picture')} in {done.folder}; {INDEX} says what was done to each", soft_wrap=True)
    if done.unreadable:
        raise typer.Exit(1)

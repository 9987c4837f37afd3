"""`ntf store`: a dataset's versions, what is in them, and their upkeep."""

from __future__ import annotations

import typer

from flows.commands.store import contents, upkeep, versions


def add_to(parent: typer.Typer) -> None:
    app = typer.Typer(no_args_is_help=True, help="Shows, compares, checks, tags and cleans the versions of a dataset.")
    for commands in (versions, contents, upkeep):
        commands.add_to(app)
    parent.add_typer(app, name="store")

"""Operate: all deployments on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import DevicesOption, OutputOption, StoreOption
from generators.errors import InputError


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf serve` · `ntf serve --manifest mine.yaml --cron '*/30 * * * *'`")(serve)


def serve(
    manifest: Annotated[str, typer.Option("--manifest", help="The default manifest of the deployments.")] = "demo",
    store: StoreOption = Path("store"),
    output: OutputOption = Path("runs"),
    device: DevicesOption = "auto",
    cron: Annotated[str | None, typer.Option("--cron", help="When `refresh` looks by itself, as a cron expression.")] = "0 * * * *",
) -> None:
    """Offers build-multistep, build-dataset, train-ntf, evaluate-ntf and refresh to the Prefect server that PREFECT_API_URL names."""
    if not os.environ.get("PREFECT_API_URL"):
        raise InputError(
            "no Prefect server is named",
            "Start one with `prefect server start --host 127.0.0.1`, then set PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    import prefect

    from flows.deployments import deployments

    offered = deployments(manifest, str(store.resolve()), str(output.resolve()), device, cron)
    console.err.print(f"offering {', '.join(each.name for each in offered)}; Ctrl-C ends it")
    prefect.serve(*offered, pause_on_shutdown=False, print_starting_message=False)

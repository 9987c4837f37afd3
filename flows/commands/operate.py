"""Operate: all deployments on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.commands.options import AllowOutsideOption, DevicesOption, OutputOption, StoreOption
from foreign.text import reason, visible
from generators.errors import InputError

START = "Start one with `prefect server start --host 127.0.0.1`"
SECONDS = 10  # that a server may take to answer


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Examples: `ntf serve` · `ntf serve --manifest mine.yaml --cron '*/30 * * * *'`")(serve)


def serve(
    manifest: Annotated[str, typer.Option("--manifest", help="The manifest that runs take if they name none.")] = "demo",
    store: StoreOption = Path("store"),
    output: OutputOption = Path("runs"),
    device: DevicesOption = "auto",
    allow_outside: AllowOutsideOption = False,
    cron: Annotated[str | None, typer.Option("--cron", help="When to start `refresh`, as a cron expression.")] = "0 * * * *",
) -> None:
    """Offers the flows (build-multistep, build-dataset, train-ntf, evaluate-ntf, refresh) to a Prefect server, and runs them here.

    The environment variable PREFECT_API_URL names the server. A run takes manifests from one folder only: NTF_MANIFESTS, or that of
    --manifest. Ctrl-C ends the command.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise InputError("PREFECT_API_URL names no Prefect server", f"{START}, then set PREFECT_API_URL=http://127.0.0.1:4200/api")
    _require_server(os.environ["PREFECT_API_URL"])
    import prefect

    from flows.data import MANIFESTS
    from flows.deployments import deployments

    if Path(manifest).suffix in (".yaml", ".yml"):
        os.environ.setdefault(MANIFESTS, str(Path(manifest).resolve().parent))
        manifest = str(Path(manifest).resolve())
    offered = deployments(manifest, _absolute(store), _absolute(output), device, cron)
    console.err.print(f"offering {', '.join(deployment.name for deployment in offered)}; Ctrl-C ends it")
    prefect.serve(*offered, pause_on_shutdown=False, print_starting_message=False)


def _require_server(address: str) -> None:
    """Raises InputError if no Prefect API answers at `address`, in place of the traceback that Prefect ends with."""
    import httpx

    shown = "PREFECT_API_URL"
    try:
        shown = visible(str(httpx.URL(address).copy_with(userinfo=b"")))  # without a password
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=SECONDS)
        user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").encode().partition(b":")
        allowed = httpx.get(f"{address.rstrip('/')}/admin/version", timeout=SECONDS, auth=(user, password) if user else None)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise InputError(f"no Prefect server answers at {shown} ({reason(error)})", f"{START}, or correct PREFECT_API_URL") from None
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise InputError(f"what answers at {shown} is no Prefect API", "Correct PREFECT_API_URL: it ends in /api")
    if allowed.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise InputError(f"the server at {shown} lets only those in who know its password", "Set PREFECT_API_AUTH_STRING=user:password")
    if allowed.is_error:
        raise InputError(f"the server at {shown} answers {allowed.status_code}", "Look into its log")


def _absolute(folder: Path) -> str:
    """A folder as runs in other working directories find it; a URI, which lost a slash on its way, as it is."""
    from pipelines.place import Place

    place = Place.of(folder)
    return str(folder.resolve()) if place.is_local else place.location

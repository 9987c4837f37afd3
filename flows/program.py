"""The commands of `ntf`, and its own options. Commands parse, call one plain function of `flows` or below, and print.

Help, completion and a wrong option answer at once: this module and those of `flows.commands` import what is heavy (torch, lance, Prefect)
inside the commands that need it.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from importlib import metadata
from pathlib import Path
from typing import Annotated, TextIO

import typer
from typer.completion import Shells, completion_init, get_completion_script, install

from flows import console
from flows.commands import (
    audit,
    build,
    checkpoints,
    delivering,
    detect,
    exporting,
    fetch,
    importing,
    look,
    operate,
    publishing,
    store,
    using,
)
from flows.console import Detail, complain, err
from flows.journal import Journal
from foreign.errors import OF_THE_DISK, InputError
from foreign.secrets import without_secrets
from foreign.text import without_source
from pipelines.errors import CheckFailed

COMPLETE = "_NTF_COMPLETE"  # a shell that completes a command line sets it
# These keep libraries from printing on their own. They are not set with -v, and never replace what a user has set.
HUSHED = {
    "OPENCV_LOG_LEVEL": "ERROR",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "RUST_BACKTRACE": "0",
}

SHARING = ("train", "compare", "ablate")  # commands whose processes, under `accelerate launch`, share the work

app = typer.Typer(
    name="ntf",
    no_args_is_help=True,
    add_completion=False,  # typer's own option guesses the shell; ours is told
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Makes datasets of fake images with many generators, keeps them in versions, and trains detectors of fakes on them.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ntf {metadata.version('natural-trace-foundry')}")
        raise typer.Exit


def _show_completion(shell: Shells | None) -> None:
    if shell:
        print(get_completion_script(prog_name="ntf", complete_var=COMPLETE, shell=shell.value))
        raise typer.Exit


def _install_completion(shell: Shells | None) -> None:
    if shell:
        _, file = install(shell=shell.value, prog_name="ntf", complete_var=COMPLETE)
        print(f"wrote {file}; open a new terminal to use it")
        raise typer.Exit


@app.callback(epilog="Examples: `ntf demo` · `ntf build --help` · `ntf -q --log night.log build demo` · `ntf --install-completion bash`")
def _program(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results, warnings and errors only: no bars, no lines on the way, no notes.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show the lines of the libraries, and where in the code an error arose.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="Also write to the end of this file all that is shown, with the time of each line."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of this program.")
    ] = False,
    install_completion: Annotated[
        Shells | None,
        typer.Option("--install-completion", callback=_install_completion, is_eager=True, help="Set up completion for a shell."),
    ] = None,
    show_completion: Annotated[
        Shells | None,
        typer.Option("--show-completion", callback=_show_completion, is_eager=True, help="Print the completion script for a shell."),
    ] = None,
) -> None:
    """Makes datasets of fake images with many generators, keeps them in versions, and trains detectors of fakes on them."""
    _require_one_process(context.invoked_subcommand)
    if quiet and verbose:
        raise InputError("-q and -v cannot both be given", "Leave one of them out")
    console.set_detail(Detail.QUIET if quiet else Detail.VERBOSE if verbose else Detail.NORMAL)
    if verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(_WithoutSecrets("%(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
    else:
        for name, value in HUSHED.items():
            os.environ.setdefault(name, value)
    if log is not None:
        console.set_journal(Journal.open(log, sys.argv))


class _WithoutSecrets(logging.Formatter):
    """Lines of libraries, such as those of requests, with their addresses as they may be printed."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _require_one_process(command: str | None) -> None:
    """Ends every process of a command that several were started of and that would do the same work in each: the first with one line. Help
    is given."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if "LOCAL_RANK" not in os.environ or processes == "1" or command in SHARING or {"-h", "--help"}.intersection(sys.argv):
        return
    if os.environ.get("RANK", "0") != "0":
        raise typer.Exit(2)
    raise InputError(
        f"`ntf {command}` works in one process, and a launcher started {processes}",
        "Start it by itself. Processes of `accelerate launch` share the work of `ntf train`, `ntf compare` and `ntf ablate`",
    )


for commands in (look, fetch, build, audit, store, exporting, publishing, importing, delivering, checkpoints, detect, using, operate):
    commands.add_to(app)


def run() -> None:
    """Runs the command. An error that a person can fix is one line and an exit code, never a traceback."""
    warnings.showwarning = _warn
    console.set_detail(Detail.NORMAL)
    if COMPLETE in os.environ:
        completion_init()  # typer's completion, which knows how its own scripts ask
    code: object = None
    try:
        code = _run()
    except SystemExit as ended:
        code = ended.code
        raise
    except Exception:
        code = 1
        console.note_in_journal(traceback.format_exc())
        raise
    finally:
        console.close_journal(code)
    if code:
        sys.exit(code)


def _run() -> int:
    try:
        app()
    except InputError as error:
        _show_place()
        complain(error.message, error.fix)
        return 2
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        _show_place()
        refused = InputError.unwritable(f"use {error.filename}" if error.filename else "write", error)
        complain(refused.message, refused.fix)
        return 2
    except CheckFailed as error:
        err.print(f"[bold red]failed:[/bold red] {console.plain(str(error))}", soft_wrap=True)
        return 1
    return 0


def _show_place() -> None:
    """Where in the code an error arose, for those who asked for it."""
    if console.detail() is Detail.VERBOSE:
        err.print(traceback.format_exc(), markup=False, soft_wrap=True)


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """A warning in one line. Of a library's, its place in the code is for those who asked for more."""
    if category.__name__ != "StoreWarning" and console.detail() is Detail.VERBOSE:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
        return
    if issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
        return  # these are for the authors of libraries
    err.print(f"[yellow]warning:[/yellow] {console.plain(without_source(str(message)))}", soft_wrap=True)

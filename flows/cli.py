"""`ntf`, the command line. Commands parse, call one plain function of `flows` or below, and print.

Help, completion and a wrong option answer at once: this module and those of `flows.commands` import what is heavy (torch, lance, Prefect)
inside the commands that need it.

Exit codes: 0 done, 1 the check failed, 2 the input is wrong, 130 stopped by Ctrl-C, 143 ended by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from importlib import metadata
from types import FrameType
from typing import Annotated, TextIO

import typer
from typer.completion import Shells, completion_init, get_completion_script, install

from flows.commands import audit, build, checkpoints, delivering, detect, exporting, fetch, importing, look, operate, store, using
from flows.console import complain, err
from generators.errors import InputError
from ntf_model.errors import InputError as DetectorInputError
from pipelines.errors import CheckFailed

STOPPED = 130  # what a shell, and typer, call Ctrl-C
COMPLETE = "_NTF_COMPLETE"  # a shell that completes a command line sets it

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


@app.callback(epilog="Examples: `ntf demo` · `ntf build --help` · `ntf --install-completion bash`")
def _program(
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


for commands in (look, fetch, build, audit, store, exporting, importing, delivering, checkpoints, detect, using, operate):
    commands.add_to(app)


def main() -> None:
    """Runs the command. An error that a person can fix is one line and an exit code, never a traceback."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    signal.signal(signal.SIGTERM, _end)
    warnings.showwarning = _warn
    if COMPLETE in os.environ:
        completion_init()  # typer's completion, which knows how its own scripts ask
    try:
        app()
    except (InputError, DetectorInputError) as error:
        complain(error.message, error.fix)
        sys.exit(2)
    except CheckFailed as error:
        err.print(f"[bold red]failed:[/bold red] {_plain(str(error))}", soft_wrap=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == STOPPED:
            err.print("stopped. Run the same command again to go on: it makes only what is missing.")
        raise


def _end(number: int, _frame: FrameType | None) -> None:
    """Ends the program the ordinary way, so that what it started (Prefect's server of this run) ends with it."""
    sys.exit(128 + number)


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """What a store warns of, in one line; any other warning as Python prints it."""
    if category.__name__ == "StoreWarning":
        err.print(f"[yellow]warning:[/yellow] {_plain(str(message))}", soft_wrap=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _plain(message: str) -> str:
    """The message in one line, without rich taking its brackets for markup."""
    from rich.markup import escape

    return escape(" ".join(message.split()))


if __name__ == "__main__":
    main()

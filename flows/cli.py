"""`ntf`, the command line. Commands parse, call one plain function of `flows.jobs` or below, and print.

Exit codes: 0 done, 1 the check failed, 2 the input is wrong, 130 stopped by Ctrl-C, 143 ended by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import typer

from flows.commands import audit, build, checkpoints, detect, exporting, importing, look, operate, store
from flows.console import err
from generators.errors import InputError
from ntf_model.errors import InputError as DetectorInputError
from pipelines.errors import CheckFailed

STOPPED = 130  # what a shell, and typer, call Ctrl-C

app = typer.Typer(
    name="ntf",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Datasets of fake images from generators and chains of generators, versioned, and a detector trained on them.",
)
look.add_to(app)
build.add_to(app)
audit.add_to(app)
store.add_to(app)
exporting.add_to(app)
importing.add_to(app)
checkpoints.add_to(app)
detect.add_to(app)
operate.add_to(app)


def main() -> None:
    """Runs the command; every error that a person can mend is one line and an exit code, never a traceback."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except (InputError, DetectorInputError) as error:
        err.print(f"[bold red]error:[/bold red] {_plain(error)}", soft_wrap=True)
        sys.exit(2)
    except CheckFailed as error:
        err.print(f"[bold red]failed:[/bold red] {_plain(error)}", soft_wrap=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == STOPPED:
            err.print("stopped. Run the same command again to go on: only what is missing is made.")
        raise


def _end(number: int, _frame: FrameType | None) -> None:
    """Ends the program the ordinary way, so that what it started (Prefect's server of one run) ends with it."""
    sys.exit(128 + number)


def _plain(error: Exception) -> str:
    """The message in one line, without rich taking its brackets for markup."""
    from rich.markup import escape

    return escape(" ".join(str(error).split()))


if __name__ == "__main__":
    main()

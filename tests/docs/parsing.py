"""Command lines held against the real ones: does the command exist, does it have these options, are the values of the right type?"""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from tests.docs.markdown import ROOT


def parse(words: Sequence[str]) -> None:
    """Raises AssertionError that says what is wrong with a command line of `ntf`, `prefect`, `make` or `python`."""
    program, rest = words[0], list(words[1:])
    {"ntf": _ntf, "prefect": _prefect, "make": _make, "python": _python}[program](rest)


def ntf_command(words: Sequence[str]) -> tuple[click.Command, int]:
    """The command of `ntf` that `words` begin with, and how many of them name it, with the program's own options before it. AssertionError
    if there is none."""
    found: Any = _ntf_group()
    own = {name: parameter for parameter in found.params for name in parameter.opts}
    depth = 0
    while depth < len(words) and words[depth] in own:
        depth += 1 if own[words[depth]].is_flag else 2
    while isinstance(found, typer.core.TyperGroup):
        name = words[depth] if depth < len(words) else ""
        assert name in found.commands, f"`ntf {' '.join(words[: depth + 1])}` is no command; there are {', '.join(found.commands)}"
        found, depth = found.commands[name], depth + 1
    return found, depth


@cache
def _ntf_group() -> click.Command:
    from flows.program import app

    return typer.main.get_command(app)


def _ntf(words: list[str]) -> None:
    command, depth = ntf_command(words)
    try:
        command.make_context("ntf", words[depth:])
    except click.exceptions.Exit as ended:
        assert ended.exit_code == 0
    except Exception as error:  # typer has exceptions of its own beside click's
        raise AssertionError(getattr(error, "message", str(error))) from None


def _prefect(words: list[str]) -> None:
    from prefect.cli._app import _app

    words = words[1:] if words[:1] == ["--no-prompt"] else words
    try:
        _app.parse_args(words, exit_on_error=False, print_error=False)
    except Exception as error:  # cyclopts' own
        raise AssertionError(str(error)) from None


def _make(words: list[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _python(words: list[str]) -> None:
    if words[:1] == ["-m"]:
        assert words[1] == "pytest", f"python -m {words[1]} is not known here"
        for word in words[2:]:
            assert "/" not in word or (ROOT / word).exists(), f"there is no {word}"
        return
    script = ROOT / words[0]
    assert script.is_file(), f"there is no {words[0]}"
    _parse_script(script, words[1:])


class _Parsed(Exception):
    """The script's own parser took the words; the rest of it need not run."""


def _parse_script(script: Path, words: list[str]) -> None:
    """Runs a script up to the point where it has parsed its arguments."""
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> None:
        original(parser, *given, **named)
        raise _Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [str(script), *words])
        patch.syspath_prepend(str(script.parent))
        for place in ("existing_folder", "known_figures"):  # a reader has these, or has just made them
            patch.setattr(f"benchmarks.options.{place}", Path)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except _Parsed:
            return
        except SystemExit as ended:
            raise AssertionError(f"{script.name} refuses {' '.join(words)} (exit code {ended.code})") from None
    raise AssertionError(f"{script.name} takes no arguments, and was given {words}")

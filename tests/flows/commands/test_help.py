"""Help is there at once: what only tells about the program loads nothing that computes. And it can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import typer

from flows.commands import options
from flows.commands.store import contents
from flows.program import app
from generators import registry
from generators.training.train import RECIPES
from ntf_model.registry import detector_names
from pipelines.examine.duplicates import DISTANCE, SIMILARITY
from pipelines.export import FORMS
from pipelines.export.licences import USES
from pipelines.manifest.splits import SPLITS
from tests.flows.processes import NTF, ROOT

HEAVY = {"cv2", "diffusers", "lance", "numpy", "pandas", "PIL", "prefect", "pyarrow", "sklearn", "torch", "transformers"}
# Runs `ntf` with several command lines in one fresh process, and tells what each printed and what was loaded by then.
PROGRAM = """
import contextlib, io, json, os, sys
from flows import cli
for environment, words in json.loads(sys.argv.pop()):
    sys.argv[:] = ["ntf", *words]
    os.environ.update(environment)
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    for name in environment:
        del os.environ[name]
    print(json.dumps([code or 0, said.getvalue(), sorted(name for name in sys.modules if "." not in name)]))
"""
Call = tuple[dict[str, str], list[str]]


def commands() -> list[tuple[str, click.Command]]:
    """All commands of `ntf` by name; those of a group as "store log"."""
    listed = []
    for name, command in typer.main.get_command(app).commands.items():
        if hasattr(command, "commands"):
            listed += [(f"{name} {inner}", inner_command) for inner, inner_command in command.commands.items()]
        else:
            listed.append((name, command))
    return listed


def completing(line: str) -> Call:
    """What bash asks when Tab is pressed at the end of `line`."""
    return {"_NTF_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}, []


def in_a_fresh_process(calls: list[Call]) -> list[tuple[int, str, list[str]]]:
    """For every call its exit code, what it printed, and the packages that are loaded."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=200)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@cache
def helped() -> dict[tuple[str, str], tuple[int, str, list[str]]]:
    """The help of every command, asked for in both ways."""
    asked = [(name, option) for name, _ in commands() for option in ("--help", "-h")]
    return dict(zip(asked, in_a_fresh_process([({}, [*name.split(), option]) for name, option in asked]), strict=True))


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    for option in ("--help", "-h"):
        code, said, loaded = helped()[name, option]
        assert (code, f"Usage: ntf {name}" in said) == (0, True), said
        assert not HEAVY & set(loaded)


@pytest.mark.parametrize(
    ("call", "code", "text"),
    [
        (({}, ["--help"]), 0, "Usage: ntf"),
        (({}, ["-h"]), 0, "Usage: ntf"),
        (({}, []), 2, "Usage: ntf"),
        (({}, ["store"]), 2, "Usage: ntf store"),
        (({}, ["--version"]), 0, "ntf 0."),
        (({}, ["build", "demo", "--devcie", "cpu"]), 2, "--devcie"),
        (({}, ["biuld"]), 2, "biuld"),
        (({}, ["export", "demo", "out", "--to", "zip"]), 2, "imagefolder"),
        (({}, ["--show-completion", "bash"]), 0, "_NTF_COMPLETE=complete_bash"),
        (({}, ["--show-completion", "zsh"]), 0, "compdef"),
        (({"_NTF_COMPLETE": "source_fish"}, []), 0, "complete --command ntf"),
        (completing("ntf bu"), 0, "build"),
        (completing("ntf store che"), 0, "checkout"),
        (completing("ntf build --dev"), 0, "--devices"),
        (completing("ntf export demo out --to par"), 0, "parquet"),
        (completing("ntf train demo --detector wang"), 0, "wang2020"),
        (completing("ntf checkpoint add x.pkl --generator styleg"), 0, "stylegan2"),
    ],
    ids=lambda value: " ".join([*value[0].values(), *value[1]]) or "nothing" if isinstance(value, tuple) else "",
)
def test_what_only_tells_loads_nothing_heavy(call: Call, code: int, text: str) -> None:
    ((ended, said, loaded),) = in_a_fresh_process([call])
    assert (ended, text in said) == (code, True), said
    assert not HEAVY & set(loaded)


def test_a_command_that_computes_is_seen_to_load_it() -> None:
    ((code, _, loaded),) = in_a_fresh_process([({}, ["validate", "demo"])])
    assert (code, bool(HEAVY & set(loaded))) == (0, True)


def test_the_installed_program_completes(tmp_path: Path) -> None:
    """bash itself, with the script that the program prints."""
    script = tmp_path / "completion.sh"
    script.write_text(subprocess.run([*NTF, "--show-completion", "bash"], capture_output=True, text=True, check=True).stdout)
    line = (
        f'. {script}; COMP_WORDS=(ntf valid); COMP_CWORD=1; PATH={Path(NTF[0]).parent}:$PATH _ntf_completion ntf; echo "${{COMPREPLY[@]}}"'
    )
    assert subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.strip() == "validate"


@pytest.mark.parametrize(
    ("choice", "known"),
    [(options.ExportForm, FORMS), (options.Use, USES), (options.Split, SPLITS), (options.Label, ("real", "fake"))],
)
def test_choices_are_those_of_the_rooms_below(choice: Any, known: tuple[str, ...]) -> None:
    assert get_args(choice) == known


def test_names_that_complete_are_the_registered_ones() -> None:
    assert options.detector_names() == detector_names()
    assert options.generator_names() == registry.names()
    assert (contents.DISTANCE, contents.SIMILARITY) == (DISTANCE, SIMILARITY)


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_says_what_it_does_with_two_examples(name: str, command: click.Command) -> None:
    first = (command.help or "").partition("\n\n")[0]
    assert re.match(r"[A-Z][a-z]+s .*\.$", first, re.DOTALL), f"the help of ntf {name} does not begin with what it does: {first}"
    assert (command.epilog or "").count(f"`ntf {name}") >= 2, f"ntf {name} lacks two examples"
    silent = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert not silent, f"ntf {name} says nothing of {', '.join(silent)}"


def test_help_names_every_generator_that_can_be_trained() -> None:
    (name, *_) = dict(commands())["train-generator"].params
    assert set(re.findall(r"[a-z_]+[0-9]?", name.help.partition(":")[2])) - {"or"} == set(RECIPES)

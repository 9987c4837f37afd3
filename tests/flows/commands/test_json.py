"""What scripts read: `--json` on every command that ends with a result, one style of it, and a page that lists it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from flows import console
from tests.commands import Answer
from tests.flows.commands.test_help import commands
from tests.flows.processes import ROOT

Ntf = Callable[..., Answer]
WITHOUT = {"app", "serve"}  # they run until they are stopped
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def has_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_every_command_with_a_result_has_json_and_its_line_on_the_page() -> None:
    named = {name for row in PAGE.splitlines() if row.startswith("| `ntf") for name in re.findall(r"`ntf ([^`]+)`", row)}
    with_json = {name for name, command in commands() if has_json(command)}
    assert {name for name, _ in commands()} - with_json == WITHOUT
    assert named == with_json


def test_the_own_options_are_on_the_page(ntf: Ntf) -> None:
    for option in ("--quiet", "--verbose", "--log"):
        assert f"`{option}" in PAGE and option in ntf("--help").out


def test_a_build_and_its_store_as_json(ntf: Ntf, manifest_file: Path) -> None:
    built = json.loads(ntf("build", str(manifest_file), "--device", "cpu", "--json").out)
    assert (built["version"], built["is_new"], built["failed"]) == (1, True, [])
    assert built["images"] > 22  # fakes, their first steps, and reals
    again = json.loads(ntf("build", str(manifest_file), "--device", "cpu", "--json").out)
    assert (again["version"], again["is_new"], again["digest"]) == (1, False, built["digest"])
    assert json.loads(ntf("store", "digest", "tiny", "--json").out)["digest"] == built["digest"]
    assert json.loads(ntf("store", "tag", "tiny", "first", "--json").out) == {"dataset": "tiny", "tag": "first", "version": 1}
    counts = json.loads(ntf("store", "show", "tiny", "--json").out)
    assert sum(row["images"] for row in counts if row["role"] == "final") == 22
    exported = json.loads(ntf("export", "tiny", "out", "--json").out)
    assert exported["folder"] == "out" and exported["images"] > 22
    assert json.loads(ntf("store", "untag", "tiny", "first", "--json").out)["version"] == 1
    freed = json.loads(ntf("store", "gc", "tiny", "--dry-run", "--json").out)
    assert (freed["dry_run"], freed["versions"]) == (True, [])
    assert json.loads(ntf("store", "checkout", "tiny", "1", "--json").out)["digest"] == built["digest"]


def test_problems_of_a_manifest_as_json(ntf: Ntf, manifest_file: Path) -> None:
    manifest_file.write_text(manifest_file.read_text() + "\nsede: 1\n")
    answer = ntf("validate", str(manifest_file), "--json")
    (problem,) = json.loads(answer.out)["problems"]
    assert answer.code == 2 and "sede" in problem["problem"]
    assert problem["line"] == len(manifest_file.read_text().splitlines())


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": float("nan"), "b": [float("inf"), 1.5, (-float("inf"),)], "c": Path("x"), "long": "n" * 500})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5, [None]], "c": "x", "long": "n" * 500}

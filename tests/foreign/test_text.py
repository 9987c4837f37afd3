"""Names of strangers on a terminal and in a spreadsheet: shown, and not obeyed."""

from __future__ import annotations

import csv
import io
import logging

import pytest

from flows.console import SafeConsole, cell
from flows.logs import EscapedLogger
from foreign.text import as_csv_cell, escape_controls, visible
from ntf_model.judging.tables import Table

HOSTILE = ["\x1b[2Jgone", "\x1b]8;;http://evil\x07link\x1b]8;;\x07", "a\rb", "\u202egpj.exe", "\x9b31m", "\u2028", "\ud800", "\u200b"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_obeys_is_shown(text: str) -> None:
    for shown in (visible(text), escape_controls(text)):
        assert shown.isprintable() and "\\" in shown


def test_letters_of_all_languages_stay() -> None:
    assert visible("Ünïcödé 日本 عربي 👤") == "Ünïcödé 日本 عربي 👤"


@pytest.mark.parametrize("text", [*HOSTILE[:6], "[/]", "[bold", "[red]w[/blue]", "layer[0].weight", "[link=http://evil]x"])
def test_the_console_prints_names_as_they_are(text: str) -> None:
    from rich.table import Table as Grid

    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=True, color_system=None, width=200)
    console.print(cell(text))
    grid = Grid("name")
    grid.add_row(cell(text))
    console.print(grid)
    console.print(text)  # somebody forgot `cell`: the colours may be wrong, and nothing ends
    lines = stream.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[3m", "")
    assert "\x1b[2J" not in lines and "\x1b]8;;http://evil\x07" not in lines and "\u202e" not in lines
    assert lines.splitlines()[0].strip() == escape_controls(text).strip()


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-a", "@SUM(1)", "\t=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert as_csv_cell(text) == f"'{text}"
    rendered = Table("t", ["Method", "AP"], [[text, "-0.5"]], [], "").render("csv")
    rows = [row for row in csv.reader(io.StringIO(rendered)) if len(row) > 1]
    assert all(value[:1] not in "=+@\t\r" or not value for row in rows for value in row)


@pytest.mark.parametrize("value", ["-0.5", "+3", "1e-3", "97.31", "", "name", -1.5, 3, None])
def test_numbers_and_plain_names_stay(value: object) -> None:
    assert as_csv_cell(value) == value


@pytest.mark.parametrize("text", [*HOSTILE[:6], "a|b", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "`code`", "a\n\n# head"])
def test_markdown_shows_names_and_obeys_nothing(text: str) -> None:
    table = Table(text, ("subset", "AP"), [[text, 0.5]], (), "")
    _, _, header, _, row = table.render("markdown").splitlines()
    assert header == "| subset | AP |"
    assert row.replace("\\|", "").count("|") == 3
    assert "<" not in row and "](" not in row and row.isprintable()


def test_lines_of_a_run_are_one_line_and_command_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    logger = EscapedLogger(logging.getLogger("run"), {})
    with caplog.at_level(logging.INFO, logger="run"):
        logger.info("%s waits: %s", "a\x1b[2Jb\nc", "50 %s of it")
        logger.warning("100 % of \x9b31m")
    assert [record.getMessage() for record in caplog.records] == ["a\\x1b[2Jb\\nc waits: 50 %s of it", "100 % of \\x9b31m"]

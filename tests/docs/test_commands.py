"""Every command in README and docs is run, in the order of the page, or held against the real command line for a stated reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, ROOT, Block, Command, blocks, commands, names
from tests.docs.parsing import ntf_command, parse
from tests.docs.tables import CHEAPER, EXIT_CODES, LINES, NOT_OURS, PARSED, WORDS

PROGRAMS = ("ntf", "prefect", "make", "python")
SLOW = {"first-hour.md", "training-a-generator.md"}  # they train generators; the first also a detector, and builds four versions
Call = Callable[[list[str]], tuple[int, str]]


def page_parameters() -> list[object]:
    found = []
    for page in PAGES:
        marks = [pytest.mark.slow] if page.name in SLOW else []
        found.append(pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=marks))
    return found


def without_environment(text: str) -> str:
    """`.venv/bin/ntf` is `ntf`, and so on."""
    return text.replace(".venv/bin/", "")


def reason_to_parse(text: str) -> str | None:
    """Why a command is only parsed: the reason of the longest beginning in the table, or None if it is to be run."""
    known = [start for start in PARSED if f"{text} ".startswith(start if start.endswith("/") else f"{start} ")]
    return PARSED[max(known, key=len)] if known else None


@pytest.mark.parametrize("page", page_parameters())
def test_every_command_of_a_page_does_what_it_says(page: Path, workspace: Path, call: Call) -> None:
    wrong = []
    for block in blocks(page):
        if block.file_name and block.language in ("yaml", "python", "csv"):
            _write(block, workspace)
        for command in commands(block):
            problem = _problem(command, call)
            if problem:
                wrong.append(f"{command.place}: {command.text}\n    {problem}")
    assert not wrong, "\n".join(wrong)


def test_the_tables_have_nothing_left_over() -> None:
    texts = [without_environment(command.text) for page in PAGES for block in blocks(page) for command in commands(block)]
    for start in PARSED:
        assert any(text.startswith(start) for text in texts), f"no page has `{start}`: take it out of PARSED"
    for text in EXIT_CODES:
        assert text in texts, f"no page has `{text}`: take it out of EXIT_CODES"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_inside_sentences_exist(page: Path) -> None:
    for name in names(page):
        words = name.split()
        if words[:1] != ["ntf"] or len(words) < 2:
            continue
        command, depth = ntf_command(words[1:])
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        for word in words[1 + depth :]:
            option = word.split("=")[0].rstrip(",")
            assert not option.startswith("--") or option in known, f"{page.name}: `{name}`: there is no {option}"


def test_a_wrong_command_is_found(call: Call) -> None:
    page = ROOT / "README.md"
    for text in (
        "ntf biuld mine.yaml",
        "ntf build mine.yaml --limit many",
        "make deom",
        "prefect deploymnt run x",
        "wget x",
        "ntf serve --x",
    ):
        assert _problem(Command(page, 1, text), call), text


def _write(block: Block, folder: Path) -> None:
    file = folder / str(block.file_name)
    file.parent.mkdir(parents=True, exist_ok=True)
    text = block.text
    for line, instead in LINES.items():
        text = text.replace(line, instead)
    file.write_text(text, encoding="utf-8")


def _problem(command: Command, call: Call) -> str:
    """What is wrong with a command; nothing if it runs, or parses where that is all that can be done."""
    text = without_environment(command.text)
    words = text.split()
    if words[0] in NOT_OURS:
        return ""
    if words[0] not in PROGRAMS:
        return f"{words[0]} is in no table: add it to tests/docs/tables.py, or mark what is no command as ```text"
    words = Command(command.page, command.line, text).words
    if reason_to_parse(text):
        try:
            parse(words)
        except AssertionError as error:
            return str(error)
        return ""
    words = [WORDS.get(word, word) for word in words]
    code, said = _python(words[1:]) if words[0] == "python" else call([*words[1:], *_cheaper(words)])
    expected = EXIT_CODES.get(text, 0)
    return "" if code == expected else f"exit code {code}, not {expected}: {said.strip()[-600:]}"


def _cheaper(words: list[str]) -> list[str]:
    if words[:2] == ["ntf", "train"] and "--detector" in words and words[words.index("--detector") + 1] != "ntf":
        return ["--preset", "demo", "--set", "epochs=1"]
    return next((more for start, more in CHEAPER.items() if words[: len(start.split())] == start.split()), [])


def _python(words: list[str]) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr

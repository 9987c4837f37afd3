"""Calling `ntf` as a person does, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from flows import cli


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def run_ntf(words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """The exit code and the output of `ntf WORDS`, on a terminal of 200 columns. What was printed before is not in it."""
    monkeypatch.setattr("sys.argv", ["ntf", *words])
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    return Answer(code, printed.out, printed.err)

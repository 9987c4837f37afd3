"""Calling `ntf` as a person does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Answer, run_ntf


@pytest.fixture
def ntf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Answer]:
    """`ntf("plan", "demo")` runs the command in this process, in a temporary folder, and gives exit code and output."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: run_ntf(words, monkeypatch, capsys)

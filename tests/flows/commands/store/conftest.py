"""A store with two versions, and `ntf` on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.build.build import run_build
from pipelines.store import Store
from tests.commands import run_ntf
from tests.pipelines.store.conftest import _generators, manifest, store
from tests.pipelines.store.fakes import planned

__all__ = ["_generators", "manifest", "store"]

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def ntf(store: Store, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `ntf` on a store with two versions: `ntf("store", "log", "fake")` gives the exit code and all that it printed."""
    (manifest.parent / "swapper.txt").write_text("9")
    run_build(planned(manifest), store, "cpu")
    monkeypatch.setenv("NTF_STORE", str(tmp_path / "store"))

    def run(*words: str) -> tuple[int, str]:
        answer = run_ntf(words, monkeypatch, capsys)
        return answer.code, answer.out + answer.err

    return run

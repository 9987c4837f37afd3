from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.build.build import run_build
from pipelines.store import Store
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned


@pytest.fixture(autouse=True)
def _generators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    with fake_generators():
        yield


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return fake_dataset(tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path, manifest: Path) -> Store:
    """A store with one version of the fake dataset."""
    found = Store(tmp_path / "store", "fake")
    run_build(planned(manifest), found, "cpu")
    return found

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.plan.plan import Plan
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """The plan of the fake dataset, whose generators are registered as long as the test runs."""
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    with fake_generators():
        yield planned(fake_dataset(tmp_path / "data"))

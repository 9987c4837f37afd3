"""How many images are made at once: as a person says, as a row records it, and as a card was found to hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build.build import run_build
from pipelines.examine.verify import verify
from pipelines.make.batches import RememberedBatches
from pipelines.store import Store
from tests.pipelines.store.fakes import FakeSampler, FakeSwapper, fake_dataset, fake_generators, planned


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """The batches that the fake generators were asked for."""
    seen: list[tuple[str, int]] = []
    for kind, name in ((FakeSampler, "_sample"), (FakeSwapper, "_swap")):
        plain = getattr(kind, name)

        def counted(self: Any, *given: Any, plain: Any = plain, name: str = name) -> np.ndarray:
            seen.append((name, len(given[-2])))
            return plain(self, *given)

        monkeypatch.setattr(kind, name, counted)
    with fake_generators():
        yield seen


def test_a_batch_that_is_asked_for_is_recorded_and_verify_makes_images_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[tuple[str, int]]
) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    plan = planned(fake_dataset(tmp_path / "data"))
    plain, asked = Store(tmp_path / "plain", "fake"), Store(tmp_path / "asked", "fake")
    run_build(plan, plain, "cpu")
    assert {size for _, size in sizes} == {4}, "a shard has four images"
    assert not any("made_with" in row.measures for row in plain.rows())
    sizes.clear()
    run_build(plan, asked, "cpu", batch=3)
    assert {size for _, size in sizes} == {3, 1}
    fakes = [row for row in asked.rows() if row.role in ("final", "intermediate")]
    assert {json.dumps(row.measures["made_with"]) for row in fakes} == {'{"batch": 3}', '{"batch": 1}'}
    assert [row.sha256 for row in plain.rows()] == [row.sha256 for row in asked.rows()]
    sizes.clear()
    verification = verify(asked, sample=100, device="cpu")
    assert verification.passed and set(verification.remade.values()) == {"bit-exact"}
    assert {size for _, size in sizes} == {3, 1}
    assert set(json.loads(asked.version().properties["numerics"])) >= {"torch", "tf32_matmul", "tf32_convolutions", "cudnn_deterministic"}
    assert plain.keys() == asked.keys()


def test_what_is_remembered_is_there_in_the_next_run_and_rubbish_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path))
    first, second = RememberedBatches(), RememberedBatches()
    first["stylegan2 a, 256 px, float16, card"] = 64
    second["another"] = 32  # another process, which has not seen the first
    assert RememberedBatches() == {"stylegan2 a, 256 px, float16, card": 64, "another": 32}
    for text in ('{"a": true, "b": 0, "c": "8", "d": 16}', "[1]", "not JSON"):
        (tmp_path / "batches.json").write_text(text)
        assert RememberedBatches() == ({"d": 16} if "d" in text else {})

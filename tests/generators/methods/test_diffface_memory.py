"""How many of DiffFace's candidates are made together, by the memory that is free."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from generators import memory
from generators.checkpoints import Checkpoint
from generators.methods import diffface
from generators.methods.diffface import DiffFace

DEMO = Path(str(resources.files("generators"))) / "demo" / "diffface-demo-32.safetensors"


def test_candidates_are_made_one_by_one_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32, 3), dtype=np.uint8)
    settings = {"steps": 3, "skip": 1, "candidates": 3, "mask": "ellipse", "parsing": 0, "gaze": 0}
    sizes: list[int] = []
    original = DiffFace.make

    def counted(self: DiffFace, scene: object, chosen: object, rngs: list[object]) -> object:
        sizes.append(len(rngs))
        return original(self, scene, chosen, rngs)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffFace, "make", counted)
    whole = DiffFace.load(Checkpoint(DEMO)).swap(*images, [1], **settings)
    monkeypatch.setattr(diffface, "free_memory", lambda device: 1)
    single = DiffFace.load(Checkpoint(DEMO)).swap(*images, [1], **settings)
    assert sizes == [3, 1, 1, 1]
    assert np.abs(whole.astype(int) - single).max() <= 1


def test_free_memory_keeps_to_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    unlimited = memory.free_memory("cpu")
    assert unlimited > 1_000_000
    for name, text in (("memory.max", "5000000"), ("memory.current", "4000000"), ("memory.stat", "anon 1\ninactive_file 500000\n")):
        (tmp_path / name).write_text(text)
    assert memory.free_memory("cpu") == 1_500_000
    (tmp_path / "memory.max").write_text("max")
    assert memory.free_memory("cpu") > 1_000_000

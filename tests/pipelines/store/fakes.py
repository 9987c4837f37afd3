"""Generators that take no time, and a dataset of chains of them: for tests of the store, where pixels do not matter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from generators import registry
from generators.base import Generator, Parameters
from generators.checkpoints import Checkpoint
from generators.seeding import numpy_rng
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan, make_plan

SIDE = 16


class Brightness(Parameters):
    brightness: int = 0


class Fake(Generator):
    """Noise from the seed, shifted by the one number in the checkpoint."""

    title = "Fake"
    family = "GAN"
    licence = "test"
    Parameters = Brightness
    resolution = SIDE

    def __init__(self, weight: int):
        self.weight = weight

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Fake:
        return cls(int(checkpoint.path.read_text()))


class FakeSampler(Fake):
    kinds = ("sample",)

    def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
        noise = np.stack([numpy_rng(seed).integers(0, 200, (SIDE, SIDE, 3)) for seed in seeds])
        return (noise + self.weight + settings.brightness).clip(0, 255).astype(np.uint8)


class FakeSwapper(Fake):
    family = "DM"
    kinds = ("swap",)

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: Sequence[int], settings: Any) -> np.ndarray:
        return (sources.astype(int) // 2 + targets // 2 + self.weight).clip(0, 255).astype(np.uint8)


@contextmanager
def fake_generators() -> Iterator[None]:
    """Registers both, and forgets them afterwards: other tests look at all generators."""
    registry.register("fake_sampler")(FakeSampler)
    registry.register("fake_swapper")(FakeSwapper)
    try:
        yield
    finally:
        for name in ("fake_sampler", "fake_swapper"):
            registry._registered.pop(name)


def fake_dataset(folder: Path, count: int = 8, people: int = 12) -> Path:
    """Writes real images of `people` persons (two photographs each), two checkpoints and a manifest; returns the manifest."""
    (folder / "reals").mkdir(parents=True)
    listing = []
    for number in range(2 * people):
        picture = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(str(folder / "reals" / f"{number:03d}.png"), picture)
        listing.append(f"{number:03d}.png,person{number // 2}")
    (folder / "identities.csv").write_text("\n".join(listing))
    (folder / "sampler.txt").write_text("3")
    (folder / "swapper.txt").write_text("5")
    checkpoint = {"licence": "CC0", "resolution": SIDE}
    sample = {"sample": "fake_sampler", "checkpoint": "sampler"}
    swap = {"swap": "fake_swapper", "checkpoint": "swapper", "source": "people", "repeat_pairs": True}
    manifest = {
        "dataset": "fake",
        "size": SIDE,
        "shard_size": 4,
        "splits": {"train": 0.4, "validation": 0.3},
        "reals": {"people": {"path": "reals", "identities": "identities.csv", "licence": "CC0", "count": 2 * people}},
        "checkpoints": {
            "sampler": {"generators": ["fake_sampler"], "file": "sampler.txt", **checkpoint},
            "swapper": {"generators": ["fake_swapper"], "file": "swapper.txt", **checkpoint},
        },
        "subsets": {
            "Sampled": {"count": count, "real": "people", "chain": [sample]},
            "Swapped": {"count": count, "real": "people", "chain": [{**swap, "target": "people"}]},
            "Chained": {"count": count, "real": "people", "chain": [sample, swap]},
        },
    }
    return write(folder / "fake.yaml", manifest)


def write(path: Path, manifest: dict[str, Any]) -> Path:
    path.write_text(json.dumps(manifest, indent=1))  # JSON is YAML, and has no anchors
    return path


def edited(path: Path, **subsets: Any) -> Path:
    """The manifest with some of its subsets replaced (None: removed)."""
    data = yaml.safe_load(path.read_text())
    data["subsets"] = {name: value for name, value in {**data["subsets"], **subsets}.items() if value is not None}
    return write(path, data)


def planned(manifest: Path) -> Plan:
    return make_plan(load_manifest(manifest))

"""Which generators stay in memory between shards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from generators.base import Generator
from generators.memory import OutOfMemory
from pipelines.build.producer import Producer
from pipelines.make.models import Models, keep_what_is_compiled
from pipelines.plan.plan import Plan
from pipelines.plan.shards import Shard
from pipelines.store import Store
from tests.pipelines.store.fakes import Fake
from tests.support import simswap_checkpoint

SAMPLER, SWAPPER = ("fake_sampler", "sampler"), ("fake_swapper", "swapper")


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[Generator]:
    """The generators in memory. Each holds itself, as networks with hooks do."""
    alive: weakref.WeakSet[Generator] = weakref.WeakSet()

    def init(self: Any, weight: int) -> None:
        self.weight, self.itself = weight, self
        alive.add(self)

    monkeypatch.setattr(Fake, "__init__", init)
    return alive


def names(alive: weakref.WeakSet[Generator]) -> list[str]:
    return sorted(generator.name for generator in alive)


def shards_of(plan: Plan, subset: str, step: int) -> list[Shard]:
    return [shard for shard in plan.shards if (shard.subset, shard.step) == (subset, step)]


def test_a_generator_goes_when_the_next_shards_chain_has_none_of_it(plan: Plan, tmp_path: Path, alive: weakref.WeakSet[Generator]) -> None:
    producer = Producer(plan, Store(tmp_path / "store", "fake"), "cpu")
    seen = []
    reals = [shard for shard in plan.shards if shard.role == "real"]
    for shard in [*shards_of(plan, "Sampled", 0), *shards_of(plan, "Swapped", 0), *reals]:
        producer.produce(shard)
        seen.append(names(alive))
    assert seen == [["fake_sampler"]] * 2 + [["fake_swapper"]] * 2 + [[]] * len(reals)


def test_the_generators_of_a_chain_stay_together(plan: Plan, tmp_path: Path, alive: weakref.WeakSet[Generator]) -> None:
    """As where each chain is made by itself, or an input is tried anew."""
    producer = Producer(plan, Store(tmp_path / "store", "fake"), "cpu")
    first, second = (shards_of(plan, "Chained", step) for step in (0, 1))
    made: set[int] = set()
    for shard in (first[0], second[0], first[1], second[1]):
        producer.produce(shard)
        made |= {id(generator) for generator in alive}
    assert names(alive) == ["fake_sampler", "fake_swapper"]
    assert len(made) == 2


@pytest.mark.parametrize("keep", [1, 2])
def test_the_oldest_goes_before_the_next_is_loaded(
    plan: Plan, alive: weakref.WeakSet[Generator], monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    models, loading = Models(plan.catalogue, keep=keep), list[list[str]]()
    load = Fake.load.__func__  # type: ignore[attr-defined]

    def watched(cls: type[Fake], *arguments: Any) -> Fake:
        loading.append(names(alive))
        loaded: Fake = load(cls, *arguments)
        return loaded

    monkeypatch.setattr(Fake, "load", classmethod(watched))
    for key in (SAMPLER, SWAPPER, SAMPLER, SAMPLER):
        models.get(*key)
    assert loading == ([[], [], []] if keep == 1 else [[], ["fake_sampler"]])
    models.keep_only({SWAPPER})
    assert names(alive) == ([] if keep == 1 else ["fake_swapper"])
    models.keep_only(set())
    assert names(alive) == []


def test_what_does_not_fit_beside_another_is_loaded_alone(
    plan: Plan, alive: weakref.WeakSet[Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, room = Models(plan.catalogue), [1]
    load, tries = Fake.load.__func__, list[list[str]]()  # type: ignore[attr-defined]

    def short(cls: type[Fake], *arguments: Any) -> Fake:
        tries.append(names(alive))
        loaded: Fake = load(cls, *arguments)
        if len(alive) > room[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return loaded

    monkeypatch.setattr(Fake, "load", classmethod(short))
    models.get(*SAMPLER)
    assert models.get(*SWAPPER) is models.get(*SWAPPER)
    assert (tries, names(alive)) == ([[], ["fake_sampler"], []], ["fake_swapper"])
    room[0] = 0
    with pytest.raises(OutOfMemory, match="does not fit in the memory of cpu"):
        models.get(*SAMPLER)
    with pytest.raises(OutOfMemory):
        Models(plan.catalogue).get(*SAMPLER)


def test_a_folder_for_what_is_compiled_that_a_user_names_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path))
    for before, after in ((None, tmp_path / "compiled"), (default_cache_dir(), tmp_path / "compiled"), ("/data/mine", "/data/mine")):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        if before:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
        keep_what_is_compiled()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(after)


def test_a_cache_that_cannot_be_written_leaves_what_is_compiled_where_pytorch_puts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "file" / "cache"))
    for before in (None, default_cache_dir(), "/data/mine"):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        if before:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
        keep_what_is_compiled()
        assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


COMPILED = """
import hashlib, json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch
from torch._dynamo.utils import counters
from generators.checkpoints import Checkpoint
from pipelines.make.models import Models

torch.set_num_threads(1)
checkpoint = Checkpoint(Path(sys.argv[1]), {"compile": True})
generator = Models(SimpleNamespace(checkpoint=lambda name: checkpoint)).get("simswap", "small")
faces = np.full((2, generator.resolution, generator.resolution, 3), 99, np.uint8)
pixels = generator.swap(faces, faces, [1, 2])
found = counters["inductor"]
print(json.dumps([hashlib.sha256(pixels.tobytes()).hexdigest(), found["fxgraph_cache_miss"], found["fxgraph_cache_hit"]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the compiler behind torch.compile needs g++ on a CPU")
def test_what_was_compiled_is_kept_for_the_next_process(tmp_path: Path) -> None:
    file = simswap_checkpoint(tmp_path / "simswap.safetensors")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TORCHINDUCTOR")}
    environment |= {"NTF_CACHE": str(tmp_path / "cache"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}

    def run() -> tuple[str, int, int]:
        command = [sys.executable, "-c", COMPILED, str(file)]
        done = subprocess.run(command, cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return tuple(json.loads(done.stdout.splitlines()[-1]))

    first, second = run(), run()
    assert first[1] > 0 and first[2] == 0, "the first process compiles"
    assert second[1] == 0 and second[2] == first[1], "the second finds all of it"
    assert second[0] == first[0]
    assert any((tmp_path / "cache" / "compiled").iterdir())

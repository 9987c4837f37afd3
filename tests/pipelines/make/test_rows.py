"""What a row says of its image. Lineage must expect the very chain that making records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.build.build import run_build
from pipelines.examine.lineage import changes, expected_chain
from pipelines.make import rejections, rows
from pipelines.make.rows import Job, Picture, rejection
from pipelines.manifest.schema import Codec
from pipelines.plan.plan import Plan
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import FakeSampler, edited, fake_dataset, fake_generators, planned

SAMPLE = {"sample": "fake_sampler", "checkpoint": "sampler"}
SWAP = {"swap": "fake_swapper", "checkpoint": "swapper", "source": "people", "repeat_pairs": True}
PROMPT = {"prompt": "fake_sampler", "checkpoint": "sampler", "prompts": ["a man", "a woman", "a child"]}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """Every kind of draw: real targets, made targets, two swaps, prompts, and two parts of one real source."""
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(FakeSampler, "kinds", ("sample", "prompt"))
    monkeypatch.setattr(FakeSampler, "_prompt", lambda self, prompts, seeds, settings: self._sample(seeds, settings))
    parts = [{"count": 2, "real": "people", "chain": [SAMPLE, SWAP]}, {"count": 2, "real": "people", "chain": [SAMPLE]}]
    with fake_generators():
        yield planned(
            edited(
                fake_dataset(tmp_path / "data"),
                Sampled={"parts": parts},
                Swapped={"count": 4, "real": "people", "chain": [{**SWAP, "target": "people"}]},
                Chained={"count": 6, "real": "people", "chain": [SAMPLE, SWAP, SWAP]},
                Prompted={"count": 6, "real": "people", "chain": [PROMPT, SWAP]},
            )
        )


@pytest.fixture
def store(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The plan built, while every third swap is rejected so that its target has to be made again."""
    original, calls = rejections.reason_against, []

    def reject(image: np.ndarray, target: np.ndarray | None = None) -> str | None:
        calls.extend([1] if target is not None else [])
        return rejections.NO_FACE["target"] if target is not None and len(calls) % 3 == 1 else original(image, target)

    monkeypatch.setattr(rejections, "reason_against", reject)
    store = Store(tmp_path / "store", "fake")
    run_build(plan, store, "cpu")
    return store


def recorded_and_expected(plan: Plan, store: Store) -> list[tuple[Row, list[dict[str, Any]]]]:
    steps = {(shard.subset, shard.real, shard.part, shard.step): shard for shard in plan.shards}
    made = store.rows("label = 1 AND role <> 'rejected'")
    shards = [steps[row.subset, row.real, row.part, row.step] for row in made]
    return [
        (row, expected_chain(plan, shard, row.index, [link["attempt"] for link in row.chain]))
        for row, shard in zip(made, shards, strict=True)
    ]


def test_lineage_expects_what_making_records(plan: Plan, store: Store) -> None:
    pairs = recorded_and_expected(plan, store)
    assert {(row.subset, row.part, row.step) for row, _ in pairs} == {
        (shard.subset, shard.part, shard.step) for shard in plan.shards if shard.role != "real"
    }
    assert max(row.attempt for row, _ in pairs) > 0
    assert len({link["prompt"] for row, _ in pairs for link in row.chain if "prompt" in link}) > 1
    for row, expected in pairs:
        assert row.chain == expected
        assert changes(row.chain, expected) == ()


def test_what_a_link_says_has_one_place(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change what `chain_link` says, and both what is recorded and what is expected say it."""
    monkeypatch.setattr(rows, "registry", SimpleNamespace(get=lambda name: SimpleNamespace(output_version=77)))
    store = Store(tmp_path / "store", "fake")
    run_build(plan, store, "cpu")
    pairs = recorded_and_expected(plan, store)
    assert all(link["output_version"] == 77 for row, _ in pairs for link in row.chain)
    assert all(row.chain == expected for row, expected in pairs)


def test_a_rejection_keeps_its_reason_and_its_draws_but_no_picture_and_no_prompt(plan: Plan) -> None:
    shard = next(shard for shard in plan.shards if (shard.subset, shard.step) == ("Prompted", 0))
    job = Job(shard.start, 2, 5, prompt="a man", drawn={"source": plan.pools["people"].images[0]})
    picture = rejection(plan, shard, job, rejections.BLANK, {"rank": 1})
    assert picture.pixels is None
    assert (picture.row.role, picture.row.reason, picture.row.measures) == ("rejected", "blank", {"rank": 1})
    assert picture.row.id == f"{picture.row.group}/0.2"
    assert picture.row.chain[0]["source"] == picture.row.source_id == plan.pools["people"].images[0].id
    assert "prompt" not in picture.row.chain[0]
    assert job.prompt == "a man"  # the job itself stays as it was
    assert picture.encoded(Codec(format="png")) == picture.row


def test_encoding_a_picture_leaves_its_row_as_it_was(plan: Plan) -> None:
    shard = next(shard for shard in plan.shards if (shard.subset, shard.step) == ("Prompted", 0))
    row = rejection(plan, shard, Job(shard.start, 0, 5), rejections.BLANK).row
    encoded = Picture(row, np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)).encoded(Codec(format="png"))
    assert (encoded.width, encoded.height, encoded.format) == (10, 12, "png")
    assert encoded.bytes == len(encoded.image or b"") > 0
    assert encoded.measures["sharpness"] > 0
    assert (row.image, row.measures) == (None, {})

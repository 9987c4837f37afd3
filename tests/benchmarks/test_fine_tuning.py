"""The program that lets the encoder learn, on pictures of noise: its shares, its folds, and the weights between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import fine_tuning, frozen_features
from benchmarks.fine_tuning import SETTINGS, SHARES, between
from ntf_model.data.data import DetectionSplits, from_folders
from ntf_model.ntf.config import NTFConfig, merge, preset
from ntf_model.ntf.inference import predict_data

FOLDS = 1


@pytest.fixture
def splits(tmp_path: Path) -> DetectionSplits:
    """Two subsets; their fakes are darker than their reals, a little."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("validation", 5), ("test", 2)):
        for subset in "ab":
            for label in ("real", "fake"):
                folder = tmp_path / "data" / split / subset / label
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = rng.integers(0, 250 if label == "real" else 230, (20, 20, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{split}-{number}.png")
    return from_folders(tmp_path / "data")


@pytest.fixture
def config() -> NTFConfig:
    stage = {"epochs": 2, "batch_size": 8}
    changes = {"encoder": "small", "pooling": "auto", "image_size": 16, "stage1": {**stage, "epochs": 1}, "stage2": stage}
    return preset("default", **changes)


def test_pictures_stand_in_the_order_of_the_frozen_features(splits: DetectionSplits, tmp_path: Path) -> None:
    pools = fine_tuning.pools_of(splits)
    frozen = frozen_features.pools_of(splits, "whole", (3,), tmp_path / "cache")
    assert list(pools) == list(frozen) == ["a", "b"]
    for name, pool in pools.items():
        assert pool.labels.tolist() == frozen[name].labels.tolist()
        assert [pool.dataset[row].id for row in range(len(pool))] == pool.picture_ids()
        assert [pool.dataset[row].label for row in range(len(pool))] == pool.labels.tolist()
        assert len(set(pool.picture_ids())) == 30


def test_the_first_share_is_the_start_and_the_last_the_end(splits: DetectionSplits, config: NTFConfig, tmp_path: Path) -> None:
    pools = fine_tuning.pools_of(splits)
    (train, held_out, test), *_ = frozen_features.parts_of(pools["a"].labels, 1)
    parts = DetectionSplits(*(pools["a"].take(np.flatnonzero(part)) for part in (train, held_out, test)))
    network, start, end = fine_tuning.fine_tuned(parts, config)
    moved = [name for name, value in start.items() if name.startswith("encoder.") and not torch.equal(value, end[name])]
    assert moved
    scores = fine_tuning.scores_of(parts, [pools["b"]], config, tmp_path / "cache")
    for state, column in ((start, 0), (end, len(SHARES) - 1)):
        network.load_state_dict(state)
        wanted = predict_data(network, pools["b"], config, torch.device("cpu")).probability
        assert scores.unseen[0][column] == pytest.approx(wanted, abs=1e-6)
    assert not np.allclose(scores.test[0], scores.test[-1])
    name = moved[0]
    assert torch.allclose(between(start, end, 0.25)[name], 0.75 * start[name] + 0.25 * end[name], atol=1e-6)


def test_what_the_held_out_fifth_likes_best_is_measured(splits: DetectionSplits, config: NTFConfig, tmp_path: Path) -> None:
    pools = fine_tuning.pools_of(splits)
    seen, unseen, chosen = fine_tuning.measured(pools, config, FOLDS, tmp_path / "cache")
    assert seen.shape == unseen.shape == (2, FOLDS, 4)
    assert sum(chosen.values()) == 2
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2
    for file in files:  # as if the start had been the best everywhere
        kept = dict(np.load(file))
        kept["held_out"] = np.linspace(1, 0, len(SHARES))[:, None] * np.ones_like(kept["held_out"])
        labels = pools["a"].labels[frozen_features.parts_of(pools["a"].labels, 1)[0][1]]
        kept["held_out"][0] = labels
        np.savez(file, **kept)
    again, _, chosen = fine_tuning.measured(pools, config, FOLDS, tmp_path / "cache")
    assert chosen == Counter({0.0: 2})
    assert np.array_equal(again[..., 2], again[..., 0])
    assert np.array_equal(again[..., 3], again[..., 0])
    assert np.array_equal(again[..., 1], seen[..., 1])


@pytest.mark.parametrize("name", SETTINGS)
def test_every_row_is_a_configuration(name: str) -> None:
    config = preset("default", **SETTINGS[name][1])
    assert merge(config, {"stage2": {"start_as_probe": False}}).stage2.from_stage1

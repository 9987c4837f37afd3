"""The program that compares probes and losses on a frozen encoder, on pictures of noise and on made-up features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import frozen_features
from benchmarks.frozen_features import HEADS, INNER, Pool
from ntf_model.data.data import DetectionSplits, from_folders
from ntf_model.encoders.build import EncoderSettings, encoder_of
from ntf_model.ntf.augment import to_tensor


@pytest.fixture
def splits(tmp_path: Path) -> DetectionSplits:
    """Three pictures of 32 px in each folder."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for label in ("real", "fake"):
            folder = tmp_path / "data" / split / "smooth" / label
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}-{label}-{number}.png")
    return from_folders(tmp_path / "data")


def made_up(sign: int, seed: int) -> Pool:
    """Two views of 40 reals and 40 fakes, which the first feature tells apart, by `sign` in one direction or the other."""
    rng, labels = np.random.default_rng(seed), np.repeat([0, 1], 40)
    return Pool(rng.normal(size=(80, 2, 6)) + labels[:, None, None] * [sign * 3.0, 0, 0, 0, 0, 0], labels)


def test_features_are_those_that_detectors_read(splits: DetectionSplits, tmp_path: Path) -> None:
    """A picture and its mirror image, after the blocks that are asked for, of training and validation; kept for the next call."""
    pool = frozen_features.pools_of(splits, "whole", (11,), tmp_path / "cache")["smooth"]
    encoder = encoder_of(EncoderSettings(encoder="efficientnet-lite0", pooling="traces")).eval()
    image = splits.train.dataset[4].image
    views = torch.from_numpy(np.stack([image, image[:, ::-1]]).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        wanted = encoder(to_tensor(views, encoder.mean, encoder.std, "cpu")).numpy()
    assert pool.features.shape == (12, 2, encoder.dim)
    assert pool.features[4] == pytest.approx(wanted, abs=1e-4)
    assert pool.labels.tolist() == [*splits.train.labels, *splits.validation.labels]
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2
    for file in files:
        np.save(file, 0 * np.load(file))
    assert not frozen_features.pools_of(splits, "whole", INNER, tmp_path / "cache")["smooth"].features.any()


def test_unseen_is_measured_on_the_other_subsets() -> None:
    pools = {"a": made_up(1, 0), "b": made_up(-1, 1)}
    seen, unseen = frozen_features.measured(pools, frozen_features.probe_of(2, 2), 2)
    assert seen[0] > 0.9
    assert unseen[0] < 0.45  # what tells the fakes of one subset says the opposite of the other's
    alike, _ = frozen_features.measured({"a": made_up(1, 0), "b": made_up(1, 1)}, frozen_features.probe_of(1, 2), 2)
    assert alike[0] > 0.9


@pytest.mark.parametrize("losses", [HEADS[0], HEADS[2], HEADS[5]], ids=["classifier", "reals", "all"])
def test_a_head_is_never_worse_on_validation_than_the_probe_it_starts_from(losses: frozen_features.Losses) -> None:
    (features, labels), (held_out, truth) = made_up(1, 0), made_up(1, 1)
    probe, head, average = frozen_features.head_of(losses)(features, labels, held_out, truth, 0)
    assert frozen_features.rank(head(held_out), truth) >= frozen_features.rank(probe(held_out), truth)
    assert not np.allclose(head(held_out), probe(held_out))  # it learnt
    scores = probe(held_out) / probe(held_out).std() + head(held_out) / head(held_out).std()
    assert average(held_out) == pytest.approx(scores, rel=1e-5)

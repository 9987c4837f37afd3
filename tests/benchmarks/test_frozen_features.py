"""The program that compares probes and losses on a frozen encoder, on pictures of noise and on made-up features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import frozen_features, frozen_losses
from benchmarks.frozen_features import INNER, WHOLE_NETWORK, Pool
from benchmarks.frozen_losses import GAMMA_20, HEADS, AttentionMoments
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
    assert seen.shape == unseen.shape == (2, 1)
    assert (seen > 0.9).all()
    assert (unseen < 0.45).all()  # what tells the fakes of one subset says the opposite of the other's
    alike, _ = frozen_features.measured({"a": made_up(1, 0), "b": made_up(1, 1)}, frozen_features.probe_of(1, 2), 2)
    assert (alike > 0.9).all()


def test_each_picture_is_measured_once_and_never_trained_or_chosen_on_then() -> None:
    labels = np.repeat([0, 1], [30, 20])
    parts = frozen_features.parts_of(labels, 5)
    assert sum(test.astype(int) for _, _, test in parts).tolist() == [1] * 50
    for train, held_out, test in parts:
        assert (train.astype(int) + held_out + test == 1).all()
        assert [labels[part].sum() for part in (train, held_out, test)] == [12, 4, 4]


@pytest.mark.parametrize(
    "losses", [HEADS["whole"][0], HEADS["whole"][2], HEADS["whole"][-1], GAMMA_20], ids=["classifier", "reals", "all", "gamma-20"]
)
def test_a_head_is_never_worse_on_validation_than_the_probe_it_starts_from(losses: frozen_losses.Losses) -> None:
    (features, labels), (held_out, truth) = made_up(1, 0), made_up(1, 1)
    probe, head, average = frozen_losses.head_of(losses)(features, labels, held_out, truth, 0)
    assert frozen_losses.rank(head(held_out), truth) >= frozen_losses.rank(probe(held_out), truth)
    assert not np.allclose(head(held_out), probe(held_out))  # it learnt
    scores = probe(held_out) / probe(held_out).std() + head(held_out) / head(held_out).std()
    assert average(held_out) == pytest.approx(scores, rel=1e-5)


def test_attention_starts_as_mean_and_spread_and_can_choose_a_place() -> None:
    places = torch.rand(3, 5, 8)
    pool = AttentionMoments(8)
    moments = torch.cat([places.mean(1), places.std(1, unbiased=False)], 1)
    assert torch.allclose(pool(places), moments, atol=1e-6)
    with torch.no_grad():
        pool.queries.copy_(100 * torch.nn.functional.layer_norm(places[0, 2], (8,)))
    assert torch.allclose(pool(places)[0, :8], places[0, 2], atol=1e-5)
    assert (pool(places)[0, 8:] < 1e-3).all()


def test_attention_learns_which_place_counts() -> None:
    """What tells fakes lies in one place of six, which its other channels mark; the mean over places has little of it."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 60)

    def places() -> np.ndarray:
        values = rng.normal(size=(120, 2, 6, 8))
        marked = rng.integers(6, size=(120, 2, 1))
        np.put_along_axis(values[..., 0], marked, 6.0, 2)
        sign = np.where(labels == 1, 1.5, -1.5)[:, None, None] + rng.normal(size=(120, 2, 1))
        np.put_along_axis(values[..., 1], marked, sign, 2)
        return values

    features, held_out, others = places(), places(), places()
    losses = frozen_losses.Losses("cross-entropy", epochs=60)
    probe, head, _ = frozen_losses.head_of(losses)(features, labels, held_out, labels, 0)
    assert frozen_losses.rank(head(others), labels)[0] > frozen_losses.rank(probe(others), labels)[0] + 0.005


def test_gains_are_paired_over_subsets_and_folds() -> None:
    seen = np.array([[[0.8, 0.9], [0.6, 0.7]], [[0.7, 0.8], [0.5, 0.6]]])
    cells = frozen_losses.gains(seen, seen - [0.0, 0.2])
    assert cells == ["65.0", "65.0", "+10.0 ± 0.0", "-10.0 ± 0.0"]


def test_the_whole_network_is_read_as_the_usual_probe_reads_it(splits: DetectionSplits, tmp_path: Path) -> None:
    pool = frozen_features.pools_of(splits, "whole", WHOLE_NETWORK, tmp_path / "cache")["smooth"]
    encoder = encoder_of(EncoderSettings(encoder="efficientnet-lite0")).eval()
    pixels = torch.from_numpy(splits.train.dataset[0].image.transpose(2, 0, 1)[None].copy())
    with torch.inference_mode():
        wanted = encoder(to_tensor(pixels, encoder.mean, encoder.std, "cpu")).numpy()
    assert pool.features.shape == (12, 2, encoder.dim)
    assert pool.features[0, 0] == pytest.approx(wanted[0], abs=1e-4)
    places = frozen_features.place_pools_of(splits, "whole", tmp_path / "cache")["smooth"].features
    inner = frozen_features.pools_of(splits, "whole", (11,), tmp_path / "cache")["smooth"].features
    assert frozen_losses.pooled(places) == pytest.approx(inner, abs=1e-4)

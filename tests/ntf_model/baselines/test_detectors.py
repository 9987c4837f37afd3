"""Every baseline as a detector: trained for a moment, saved, loaded, resumed; and the weights that others released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ntf_model.baselines.caddm import CADDMDetector
from ntf_model.baselines.grag2021 import Grag2021
from ntf_model.baselines.ojha2023 import CLIPClassifier, Ojha2023
from ntf_model.baselines.probe import FeatureProbe
from ntf_model.baselines.sbi import SelfBlendedImages
from ntf_model.baselines.wang2020 import Wang2020
from ntf_model.baselines.xception import XceptionNet
from ntf_model.data.data import DetectionSplits
from ntf_model.errors import InputError
from ntf_model.networks import clip
from ntf_model.networks.weights import official_state
from ntf_model.networks.xception import Xception
from ntf_model.registry import detector_names, get_detector, load_detector
from ntf_model.training.resume import begin_training

BASELINES = ("attentive_probe", "caddm", "dda", "grag2021", "ojha2023", "probe", "sbi", "wang2020", "xception")
OFFICIAL_KEYS = {
    "caddm": "adm.adm_extra_layers.0.0.conv1.bias",
    "grag2021": "layer2.0.downsample.1.running_mean",
    "sbi": "net._blocks.15._se_expand.bias",
    "wang2020": "layer4.1.conv2.weight",
    "xception": "block12.skipbn.num_batches_tracked",
}
TINY_TOWER = {"width": 64, "layers": 1, "patch": 8, "size": 16, "embedding": 8}


@pytest.fixture
def images() -> list[np.ndarray]:
    """Of two sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(side, side + 4, 3), dtype=np.uint8) for side in (36, 40, 36)]


def tiny_config(name: str, **changes: Any) -> Any:
    small = {"epochs": 1, "batch_size": 8, **changes} if name != "probe" else changes
    if name == "ojha2023":
        small |= {"tower": TINY_TOWER, "size": 16}
    return get_detector(name).preset("demo", **small)


def test_the_registry_knows_every_baseline() -> None:
    assert detector_names() == ["ntf", *BASELINES]
    for name in BASELINES:
        cls = get_detector(name)
        assert cls.name == name
        assert cls.title
        for preset in ("paper", "default"):
            cls.preset(preset)
        with pytest.raises(InputError, match=f"{name} has no preset 'other'"):
            cls.preset("other")


@pytest.mark.parametrize("name", BASELINES)
def test_a_saved_detector_is_the_same_when_it_is_loaded(name: str, images: list[np.ndarray], tmp_path: Path) -> None:
    torch.manual_seed(0)
    cls, config = get_detector(name), tiny_config(name)
    detector = cls(config, cls.build(config), "cpu")
    scores = detector.score(images)
    assert scores.dtype == np.float64
    assert np.all((scores >= 0) & (scores <= 1))
    assert np.allclose(scores[1:2], detector.score(images[1:2]), atol=1e-6)  # whatever else is in the batch
    detector.save_pretrained(tmp_path)
    loaded = load_detector(tmp_path, "cpu")
    assert type(loaded) is cls
    assert loaded.config == detector.config
    assert np.array_equal(loaded.score(images), scores)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert OFFICIAL_KEYS.get(name, "fc.weight") in file.keys()  # noqa: SIM118 (not a dict)


@pytest.mark.parametrize("name", ["ojha2023", "wang2020", "xception", "sbi", "dda", "attentive_probe"])
def test_a_moment_of_training_leaves_a_detector_and_its_record(name: str, splits: DetectionSplits, tmp_path: Path) -> None:
    changes = {"size": 64} if name in ("xception", "sbi") else {}
    seen: list[tuple[int, int, str]] = []
    data = splits._replace(train=splits.train.take(np.arange(0, len(splits.train), 4)))
    detector = get_detector(name).fit(data, tiny_config(name, **changes), tmp_path, device="cpu", on_progress=lambda *now: seen.append(now))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["epochs"]) == 1
    assert np.isfinite(metrics["epochs"][0]["loss"])
    assert metrics["peak_memory"] > 0
    assert json.loads((tmp_path / "run.json").read_text())["dataset"]["digest"] == data.digest
    assert not (tmp_path / "checkpoint" / name).exists()
    training = [step for step in seen if step[2].startswith(f"{name}, epoch 1 of 1")]
    assert training[-1][0] == training[-1][1]
    assert seen[-1][2] == "calibrating"
    items = [splits.test.dataset[row].image for row in range(3)]
    assert np.array_equal(load_detector(tmp_path, "cpu").score(items), detector.score(items))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grag2021", "caddm"])
def test_a_moment_of_training_of_the_large_ones(name: str, splits: DetectionSplits, tmp_path: Path) -> None:
    rows = np.concatenate([np.flatnonzero(splits.train.labels == label)[:4] for label in (0, 1)])
    data = DetectionSplits(splits.train.take(rows), splits.train.take(rows), splits.test)
    detector = get_detector(name).fit(data, tiny_config(name, batch_size=4), tmp_path, device="cpu")
    assert 0 <= detector.score([splits.test.dataset[0].image])[0] <= 1


class Interrupted(Exception):
    pass


def interrupted_after(steps: int) -> Any:
    """A progress callback that stops a training after so many batches."""
    seen = []

    def stop(done: int, total: int, message: str) -> None:
        seen.append(done)
        if len(seen) == steps:
            raise Interrupted

    return stop


@pytest.mark.parametrize(("name", "stop_at"), [("ojha2023", 3), ("ojha2023", 11), pytest.param("sbi", 3, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(name: str, stop_at: int, splits: DetectionSplits, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch and at its end; SBI has dropout, takes its steps by SAM, and goes on with more memory."""
    data = splits._replace(train=splits.train.take(np.arange(0, len(splits.train), 2 if name == "sbi" else 1)))
    config = tiny_config(name, checkpoint_every=1, **({"epochs": 2, "size": 64} if name == "sbi" else {"epochs": 3}))
    kind = get_detector(name)
    whole = kind.fit(data, config, tmp_path / "whole", device="cpu")
    with pytest.raises(Interrupted):
        kind.fit(data, config, tmp_path / "parts", device="cpu", on_progress=interrupted_after(stop_at))
    assert {file.suffix for file in (tmp_path / "parts" / "checkpoint" / name).iterdir()} == {".json", ".safetensors"}
    roomier = config.model_copy(update={"recompute": False}) if name == "sbi" else config
    parts = kind.fit(data, roomier, tmp_path / "parts", device="cpu", resume=True)
    state = parts.network.state_dict()
    assert all(value.equal(state[key]) for key, value in whole.network.state_dict().items())
    logs = [json.loads((tmp_path / run / "metrics.json").read_text())["epochs"] for run in ("whole", "parts")]
    for log in logs:
        for row in log:
            assert row.pop("seconds") > 0
    assert logs[0] == logs[1]


def test_a_checkpoint_leaves_out_what_is_frozen(splits: DetectionSplits, tmp_path: Path) -> None:
    config = tiny_config("ojha2023", epochs=2, checkpoint_every=1)
    with pytest.raises(Interrupted):
        Ojha2023.fit(splits, config, tmp_path, device="cpu", on_progress=interrupted_after(3))
    (file,) = (tmp_path / "checkpoint" / "ojha2023").glob("00000-000002.safetensors")
    with safe_open(file, framework="pt") as tensors:
        assert {name for name in tensors.keys() if name.startswith("model.")} == {"model.fc.weight", "model.fc.bias"}  # noqa: SIM118 (not a dict)


def test_a_damaged_checkpoint_is_named(splits: DetectionSplits, tmp_path: Path) -> None:
    begin_training(tmp_path, "ojha2023", splits, tiny_config("ojha2023"), resume=False)
    (tmp_path / "checkpoint" / "ojha2023").mkdir(parents=True)
    (tmp_path / "checkpoint" / "ojha2023" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"checkpoint.ojha2023.state.json is not JSON"):
        Ojha2023.fit(splits, tiny_config("ojha2023"), tmp_path, device="cpu", resume=True)


def test_training_leaves_the_callers_random_numbers_alone(splits: DetectionSplits) -> None:
    before = torch.get_rng_state()
    Ojha2023.fit(splits, tiny_config("ojha2023"), device="cpu")
    assert torch.get_rng_state().equal(before)


def test_no_epoch_leaves_the_starting_weights(splits: DetectionSplits, tmp_path: Path) -> None:
    config = tiny_config("ojha2023", epochs=0)
    torch.manual_seed(config.seed)
    fresh = Ojha2023.build(config)
    detector = Ojha2023.fit(splits, config, tmp_path, device="cpu")
    assert torch.equal(fresh.fc.weight, detector.network.fc.weight)
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == []


def test_a_training_that_diverges_says_so(splits: DetectionSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ojha2023, "loss", lambda self, network, batch: network(batch[0]).sum() * float("nan"))
    with pytest.raises(InputError, match=r"ojha2023 diverged: in epoch 1 its loss is nan. Lower `learning_rate`"):
        Ojha2023.fit(splits, tiny_config("ojha2023"), tmp_path, device="cpu")


def test_only_the_linear_layer_of_ojha_learns(splits: DetectionSplits) -> None:
    config = tiny_config("ojha2023")
    torch.manual_seed(config.seed)
    fresh = Ojha2023.build(config)
    detector = Ojha2023.fit(splits, config, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(fresh.model.parameters(), detector.network.model.parameters(), strict=True))
    assert not torch.equal(fresh.fc.weight, detector.network.fc.weight)
    assert "random" in detector.note


def test_the_probe_finds_what_its_features_show(splits: DetectionSplits, tmp_path: Path) -> None:
    detector = FeatureProbe.fit(splits, tiny_config("probe"), tmp_path, device="cpu")
    images = [splits.train.dataset[row].image for row in range(len(splits.train))]
    assert np.mean((detector.score(images) > 0.5) == splits.train.labels) > 0.85
    assert detector.preprocess.crop == 20  # the pictures are smaller than the 224 px that the encoder was made for
    assert np.array_equal(load_detector(tmp_path, "cpu").score(images[:5]), detector.score(images[:5]))


def test_the_probe_takes_a_model_that_transformers_saved(splits: DetectionSplits, tmp_path: Path) -> None:
    clip.build(width=64, layers=1, patch=8, size=16, embedding=8).vision_model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}))
    config = FeatureProbe.Config(model=str(tmp_path / "model"), size=16)
    detector = FeatureProbe.fit(splits, config, tmp_path / "run", device="cpu")
    assert detector.preprocess.stats == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert detector.note == ""
    loaded = load_detector(tmp_path / "run", "cpu")
    image = splits.test.dataset[0].image
    assert loaded.score([image]) == pytest.approx(detector.score([image]))
    with pytest.raises(InputError, match=r"the encoder '.*nothing' cannot be read"):
        FeatureProbe.fit(splits, FeatureProbe.Config(model=str(tmp_path / "nothing")), device="cpu")


def test_released_weights_go_through_the_official_keys(tmp_path: Path, images: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    network = Wang2020.build(Wang2020.Config(backbone="resnet18"))
    state = official_state(network, Wang2020.official)
    state["fc.weight"] = state["fc.weight"][:, :, None, None]  # as a 1x1 convolution
    torch.save({"model": state, "optimizer": {}, "total_steps": 7}, tmp_path / "w.pth")
    detector = Wang2020.from_released(tmp_path / "w.pth", "cpu")
    assert detector.config.backbone == "resnet18"
    assert np.array_equal(detector.score(images), Wang2020(detector.config, network.eval(), "cpu").score(images))
    with pytest.raises(InputError, match=r"w\.pth lacks the key"):
        SelfBlendedImages.from_released(tmp_path / "w.pth", "cpu")


def test_deepfakebench_is_told_apart_by_its_keys(tmp_path: Path) -> None:
    network = Xception(adjust_channel=True)
    torch.save({f"backbone.{key}": value for key, value in network.state_dict().items()}, tmp_path / "xception_best.pth")
    detector = XceptionNet.from_released(tmp_path / "xception_best.pth", "cpu")
    assert (detector.config.release, detector.config.size) == ("deepfakebench", 256)
    assert (detector.preprocess.library, detector.preprocess.interpolation) == ("cv2", "bicubic")


def test_a_linear_layer_alone_needs_its_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = clip.build(**TINY_TOWER)
    tower.save_pretrained(tmp_path / "clip")
    torch.save(CLIPClassifier(tower).fc.state_dict(), tmp_path / "fc_weights.pth")
    detector = Ojha2023.from_released(tmp_path / "fc_weights.pth", "cpu", backbone=str(tmp_path / "clip"))
    assert detector.config.size == 16
    assert detector.note == ""
    torch.save({"weight": torch.zeros(1, 768), "bias": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="for a CLIP with 8 features"):
        Ojha2023.from_released(tmp_path / "other.pth", "cpu", backbone=str(tmp_path / "clip"))
    with pytest.raises(InputError, match="is no CLIP that transformers can read"):
        Ojha2023.from_released(tmp_path / "fc_weights.pth", "cpu", backbone=str(tmp_path / "none"))
    torch.save({"model": {"surprise": torch.zeros(1)}}, tmp_path / "strange.pth")
    with pytest.raises(InputError, match="unexpected key 'surprise'"):
        Ojha2023.from_released(tmp_path / "strange.pth", "cpu")


def test_a_large_picture_is_scored_in_tiles() -> None:
    torch.manual_seed(0)
    config = Grag2021.Config(backbone="resnet18", tile_above=40, tile=32)
    detector = Grag2021(config, Grag2021.build(config), "cpu")
    image = np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8)
    tensor = detector.preprocess(image)
    with torch.inference_mode():
        parts = [
            (tile.shape[1] * tile.shape[2], detector.network(tile[None]).item()) for row in tensor.split(32, 1) for tile in row.split(32, 2)
        ]
    logit = sum(area * value for area, value in parts) / (48 * 64)
    assert detector.score([image])[0] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    low = detector.score([image[:40]])[0]  # one side is not over the limit
    with torch.inference_mode():
        assert low == pytest.approx(torch.sigmoid(detector.network(tensor[None, :, :40]).double()).item(), abs=1e-6)


def test_caddm_learns_from_swaps_between_a_fake_and_a_real_picture(splits: DetectionSplits) -> None:
    config = CADDMDetector.preset("demo")
    detector = CADDMDetector(config, torch.nn.Linear(1, 1), "cpu")
    detector.begin(splits.train)
    fakes = [row for row in range(len(splits.train)) if splits.train.labels[row] == 1]
    real = next(row for row in range(len(splits.train)) if splits.train.labels[row] == 0)
    matched = []
    for seed in range(12):
        image, label, loc, conf = detector.view(splits.train.dataset[fakes[seed]], np.random.default_rng(seed))
        assert image.shape == (3, 224, 224)
        assert image.max() > 1
        assert label == 1
        assert torch.isfinite(loc[conf > 0]).all()
        matched.append(int(conf.sum()))
    assert min(matched) > 0
    image, label, loc, conf = detector.view(splits.train.dataset[real], np.random.default_rng(0))
    assert label == 0
    assert conf.sum() == 0
    assert not loc.any()


def test_sbi_calls_the_blend_fake_and_the_picture_it_was_blended_into_real(splits: DetectionSplits) -> None:
    detector = SelfBlendedImages(SelfBlendedImages.preset("demo"), torch.nn.Linear(1, 1), "cpu")
    detector.begin(splits.train)
    real = splits.train.dataset[int(np.flatnonzero(splits.train.labels == 0)[0])]
    pairs = torch.stack([detector.view(real, np.random.default_rng(seed))[0] for seed in range(8)])
    assert pairs.shape == (8, 2, 3, 64, 64)
    changed = 255 * (pairs[:, 0] - pairs[:, 1]).abs().amax(1)  # by the network's own input
    assert (changed > 3).float().mean() > 0.05
    assert changed[:, :4].max() < changed[:, 24:40, 24:40].max()  # in the face, not at the top of the picture
    right = torch.tensor([[9.0, -9.0], [-9.0, 9.0]]).repeat(8, 1)
    assert detector.loss(lambda _: right, [pairs]) < 1e-6
    assert detector.probability(right).tolist() == pytest.approx([0.0, 1.0] * 8, abs=1e-6)


def test_views_follow_from_the_seed(splits: DetectionSplits) -> None:
    item = splits.train.dataset[0]._replace(label=0)
    for name in ("caddm", "grag2021", "ojha2023", "sbi", "wang2020", "xception"):
        detector = get_detector(name)(
            tiny_config(name), get_detector(name).build(tiny_config(name)) if name == "ojha2023" else torch.nn.Linear(1, 1), "cpu"
        )
        detector.begin(splits.train)
        first, again, *others = (detector.view(item, np.random.default_rng(seed))[0] for seed in (5, 5, 6, 7, 8, 9, 10, 11))
        assert torch.equal(first, again), name
        assert not all(torch.equal(first, other) for other in others), name

"""The detector from training to use: it learns, repeats itself, resumes, saves, and refuses what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ntf_model.data.data import DetectionSplits
from ntf_model.detector import TrainingRun
from ntf_model.errors import InputError
from ntf_model.judging.metrics import auroc
from ntf_model.ntf import stages
from ntf_model.ntf.config import PRESETS, NTFConfig, merge, preset
from ntf_model.ntf.ntf import NTFDetector, load_teacher
from ntf_model.registry import detector_names, get_detector, load_detector


@pytest.fixture(scope="module")
def run(splits: DetectionSplits, tiny: NTFConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    NTFDetector.fit(splits, tiny, output, device="cpu")
    return output


def weights(detector: NTFDetector) -> dict[str, torch.Tensor]:
    return detector.network.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(value.equal(second[name]) for name, value in first.items())


def some_images(splits: DetectionSplits, count: int = 6) -> list[np.ndarray]:
    return [splits.test.dataset[row].image for row in range(count)]


def test_the_run_leaves_its_record(run: Path, splits: DetectionSplits, tiny: NTFConfig) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["dataset"]["digest"] == splits.digest
    assert record["seed"] == tiny.seed
    assert record["environment"]["packages"]["torch"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["stage1"]] == [1, 2]
    assert {"hom", "het", "ort", "hom_std", "hom_min_cosine"} <= metrics["stage1"][0].keys()
    assert {"ext", "ce", "validation_ap"} <= metrics["stage2"][0].keys()
    assert list((run / "tensorboard" / "stage2").iterdir())


def test_what_is_saved_is_what_is_loaded(run: Path, splits: DetectionSplits, tiny: NTFConfig) -> None:
    images = some_images(splits)
    detector = NTFDetector.from_pretrained(run, device="cpu")
    detections = detector(images)
    assert [detection.probability for detection in detections] == detector.score(images).tolist()
    assert [detection.is_fake for detection in detections] == (detector.score(images) > detector.threshold).tolist()
    assert all(0 <= detection.distance <= 1 for detection in detections)
    again = load_detector(run, device="cpu")
    assert isinstance(again, NTFDetector)
    assert np.array_equal(again.score(images), detector.score(images))
    assert again.config == tiny


def test_a_picture_scores_the_same_alone(run: Path, splits: DetectionSplits) -> None:
    detector = NTFDetector.from_pretrained(run, device="cpu")
    images = some_images(splits, 4)
    alone = np.concatenate([detector.score([image]) for image in images])
    assert np.allclose(alone, detector.score(images), atol=1e-6)
    assert detector.score([]).shape == (0,)


def test_more_crops_are_averaged(run: Path, splits: DetectionSplits) -> None:
    detector = NTFDetector.from_pretrained(run, device="cpu")
    images = some_images(splits, 3)
    once = detector.score(images)
    detector.config = merge(detector.config, {"test_crops": 5})
    assert detector.score(images).shape == (3,)
    assert not np.allclose(detector.score(images), once, atol=1e-7)


def test_same_seed_same_weights_and_another_seed_others(run: Path, splits: DetectionSplits, tiny: NTFConfig) -> None:
    first = NTFDetector.from_pretrained(run, device="cpu")
    before = torch.get_rng_state()
    second = NTFDetector.fit(splits, merge(tiny, {"threads": 1}), device="cpu")
    assert torch.get_rng_state().equal(before)  # training leaves the caller's random numbers alone
    assert same(weights(first), weights(second))
    third = NTFDetector.fit(splits, merge(tiny, {"seed": 1}), device="cpu")
    assert not same(weights(first), weights(third))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop_at", [3, 7, 11])
def test_a_resumed_run_equals_an_unbroken_one(run: Path, splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path, stop_at: int) -> None:
    """Stopped in the middle of stage 1, at its end, and in stage 2, with a checkpoint after every step."""
    config = merge(tiny, {"checkpoint_every": 1})
    steps = 0

    def stop(done: int, total: int, message: str) -> None:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise Interrupted

    with pytest.raises(Interrupted):
        NTFDetector.fit(splits, config, tmp_path, device="cpu", on_progress=stop)
    assert not (tmp_path / "config.json").exists()
    resumed = NTFDetector.fit(splits, config, tmp_path, resume=True, device="cpu")
    unbroken = NTFDetector.from_pretrained(run, device="cpu")
    assert same(weights(resumed), weights(unbroken))
    assert resumed.threshold == unbroken.threshold
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads((run / "metrics.json").read_text())


def test_accumulated_batches_resume_too(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    config = merge(tiny, {"gradient_accumulation": 2, "checkpoint_every": 1, "stage2": {"batch_size": 8}})
    calls = []

    def stop(done: int, total: int, message: str) -> None:
        calls.append(message)
        if sum(message.startswith("stage2") for message in calls) == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        NTFDetector.fit(splits, config, tmp_path, device="cpu", on_progress=stop)
    resumed = NTFDetector.fit(splits, config, tmp_path, resume=True, device="cpu")
    assert same(weights(resumed), weights(NTFDetector.fit(splits, config, device="cpu")))


def test_a_damaged_checkpoint_is_refused(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    NTFDetector.fit(splits, tiny, tmp_path, device="cpu")
    (tmp_path / "run.json").unlink()  # as if it had been stopped
    for file in (tmp_path / "checkpoint" / "stage2").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be used"):
        NTFDetector.fit(splits, tiny, tmp_path, resume=True, device="cpu")


def test_stage_1_is_taken_over(run: Path, splits: DetectionSplits, tiny: NTFConfig) -> None:
    taken = NTFDetector.train(splits, tiny, TrainingRun(device="cpu"), stage1=run / "stage1")
    assert same(weights(taken), weights(NTFDetector.from_pretrained(run, device="cpu")))
    assert load_teacher(run / "stage1").hom[-1].out_features == tiny.projection_dim


def test_a_frozen_encoder_stays_as_stage_1_left_it(run: Path, splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    config = merge(tiny, {"stage2": {"freeze_encoder": True}})
    frozen = NTFDetector.train(splits, config, TrainingRun(tmp_path, device="cpu"), stage1=run / "stage1")
    teacher = load_teacher(run / "stage1").encoder.state_dict()
    assert same(frozen.network.encoder.state_dict(), teacher)
    loaded = NTFDetector.from_pretrained(tmp_path, device="cpu")
    assert np.array_equal(loaded.score(some_images(splits)), frozen.score(some_images(splits)))


@pytest.mark.parametrize(
    "stage2",
    [
        {"contrastive": "soft"},
        {"contrastive": "literal"},
        {"contrastive": "reals"},
        {"student": "fresh"},
        {"trace": "images"},
        {"trace": "prototype"},
        {"patch": 8},
        {"contrastive": "none"},
    ],
    ids=lambda changes: "-".join(map(str, next(iter(changes.items())))),
)
def test_every_option_trains(run: Path, splits: DetectionSplits, tiny: NTFConfig, stage2: dict) -> None:
    plain = NTFDetector.from_pretrained(run, device="cpu")
    settings = merge(tiny, {"stage2": {"epochs": 1, **stage2}})
    changed = NTFDetector.train(splits, settings, TrainingRun(device="cpu"), stage1=run / "stage1")
    assert not same(weights(plain), weights(changed))
    assert np.isfinite(changed.distance(some_images(splits))).all()


def test_cross_entropy_alone_has_no_trace(splits: DetectionSplits, tiny: NTFConfig) -> None:
    config = merge(tiny, {"stage2": {"epochs": 1, "contrastive": "none", "from_stage1": False}})
    alone = NTFDetector.fit(splits, config, device="cpu")
    assert np.isnan(alone.distance(some_images(splits))).all()
    with pytest.raises(InputError, match="without stage 1"):
        merge(tiny, {"stage2": {"from_stage1": False}})
    with pytest.raises(InputError, match="never trained"):
        merge(tiny, {"stage2": {"student": "fresh", "freeze_encoder": True}})


def test_bf16_trains_and_takes_its_wrapper_off(splits: DetectionSplits, tiny: NTFConfig) -> None:
    config = merge(tiny, {"mixed_precision": "bf16", "stage1": {"epochs": 1}, "stage2": {"epochs": 1}})
    detector = NTFDetector.fit(splits, config, device="cpu")
    assert np.isfinite(detector.score(some_images(splits))).all()
    assert all(value.dtype == torch.float32 for value in weights(detector).values() if value.is_floating_point())


@pytest.mark.slow
def test_it_learns(splits: DetectionSplits, tiny: NTFConfig) -> None:
    stage = {"epochs": 25, "batch_size": 16}
    detector = NTFDetector.fit(splits, merge(tiny, {"stage1": {"epochs": 5}, "stage2": {**stage, "patience": 25}}), device="cpu")
    scores = detector.score(some_images(splits, len(splits.test)))
    assert auroc(splits.test.labels, scores) > 0.8


def test_a_folder_of_another_kind_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no trained detector"):
        load_detector(tmp_path)
    with pytest.raises(InputError, match="'ntf-stage1'"):
        NTFDetector.from_pretrained(run / "stage1")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        NTFDetector.from_pretrained(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        NTFDetector.from_pretrained(copy)


def test_presets_and_their_errors() -> None:
    assert preset("paper").stage1.epochs == 200
    assert preset("paper").stage2.epochs == 10
    assert preset("paper").stage1.lambda_ == 0.1
    assert preset("demo", stage1={"lambda": 0.5}).stage1.lambda_ == 0.5
    assert set(PRESETS) == {"paper", "default", "demo"}
    with pytest.raises(InputError, match="no preset"):
        preset("best")
    with pytest.raises(InputError, match=r"stage2\.gama"):
        preset("demo", stage2={"gama": 1})


def test_ntf_is_a_detector_by_name() -> None:
    assert detector_names()[0] == "ntf"
    assert get_detector("ntf") is NTFDetector
    with pytest.raises(InputError, match="no detector 'nft'"):
        get_detector("nft")


SCRIPT = [(0.6, 1.0), (0.9, 0.5), (0.9, 0.4), (0.9, 0.45), (0.7, 0.1)]  # AP and loss of the validation split after each epoch


@pytest.mark.parametrize(("patience", "epochs"), [(9, 5), (2, 5), (1, 4)])
def test_the_epoch_of_the_best_validation_is_kept(
    splits: DetectionSplits, tiny: NTFConfig, monkeypatch: pytest.MonkeyPatch, patience: int, epochs: int
) -> None:
    """The highest AP, and the lower loss among equals; training stops after as many epochs without a better one as `patience` says."""
    seen: list[dict[str, torch.Tensor]] = []

    def scripted(network: torch.nn.Module, *rest: object) -> dict[str, float]:
        ap, loss = SCRIPT[len(seen)]
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"validation_ap": ap, "validation_loss": loss}

    monkeypatch.setattr(stages, "_validate", scripted)
    settings = {"epochs": 5, "patience": patience, "from_stage1": False, "contrastive": "none"}
    detector = NTFDetector.fit(splits, merge(tiny, {"stage2": settings}), device="cpu")
    assert len(seen) == epochs
    assert [epoch for epoch, state in enumerate(seen, 1) if same(state, weights(detector))] == [3]


def test_the_threshold_is_the_best_one_of_the_validation_split(run: Path, splits: DetectionSplits) -> None:
    detector = NTFDetector.from_pretrained(run, device="cpu")
    scores = detector.score([splits.validation.dataset[row].image for row in range(len(splits.validation))])
    fakes = splits.validation.labels == 1

    def right(threshold: float) -> float:
        return float(np.mean((scores > threshold) == fakes))

    assert detector.threshold != 0.5
    assert right(detector.threshold) == max(right(cut) for cut in [-1.0, *scores.tolist()])
    assert json.loads((run / "metrics.json").read_text())["threshold"] == detector.threshold
    between = replace_threshold(detector, float(np.median(scores)))
    assert [detection.is_fake for detection in between(some_images(splits))] == (
        detector.score(some_images(splits)) > between.threshold
    ).tolist()


def replace_threshold(detector: NTFDetector, threshold: float) -> NTFDetector:
    return NTFDetector(detector.network, None, detector.config, threshold, torch.device("cpu"))

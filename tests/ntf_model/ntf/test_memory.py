"""The memory of real features, the start as a probe, and a stage 1 that leaves the encoder alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ntf_model.data.data import DetectionSplits
from ntf_model.encoders.probing import fit_probe
from ntf_model.errors import InputError
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.ntf.inference import classifier_inputs
from ntf_model.ntf.losses import extended_supcon
from ntf_model.ntf.memory import prototypes
from ntf_model.ntf.ntf import NTFDetector, load_teacher
from ntf_model.registry import get_detector


def test_prototypes_are_the_groups_of_the_reals() -> None:
    torch.manual_seed(0)
    groups = F.normalize(torch.eye(4)[:3].repeat_interleave(20, 0) + 0.02 * torch.randn(60, 4), dim=1)
    found = prototypes(groups, 3, seed=0)
    assert torch.allclose((found @ torch.eye(4)[:3].T).amax(0), torch.ones(3), atol=1e-2)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    assert torch.allclose(prototypes(groups, 1, 0)[0], F.normalize(groups.mean(0), dim=0))
    assert prototypes(groups[:2], 8, 0).shape == (2, 4)


def test_only_the_nearest_trace_takes_part() -> None:
    torch.manual_seed(0)
    features, traces, real = F.normalize(torch.randn(6, 5), dim=1), F.normalize(torch.randn(3, 5), dim=1), torch.tensor([1, 1, 1, 0, 0, 0])
    losses = []
    for anchor in range(6):
        keys = [(j, features[j]) for j in range(6) if j != anchor]
        nearest = traces[(traces @ features[anchor]).argmax()]
        logits = torch.stack([features[anchor] @ key for _, key in keys] + [features[anchor] @ nearest]) / 0.5
        same = [real[j] == real[anchor] for j, _ in keys] + [bool(real[anchor])]
        losses.append(-torch.log_softmax(logits, 0)[torch.tensor(same)].mean())
    assert extended_supcon(features, real.bool(), traces, temperature=0.5, nearest=True) == pytest.approx(float(torch.stack(losses).mean()))
    assert extended_supcon(features, real.bool(), traces, temperature=0.5) != pytest.approx(float(torch.stack(losses).mean()))


def test_a_training_starts_at_the_probe_and_is_never_worse_on_validation(splits: DetectionSplits, tiny: NTFConfig, tmp_path) -> None:
    """A rate that spoils everything: then the start is what is kept, and scores as the probe of the same encoder does."""
    shared = {"encoder": "efficientnet-lite0", "encoder_layer": 2}
    probe = get_detector("probe").fit(splits, get_detector("probe").parse_config({**shared, "image_size": tiny.image_size}), device="cpu")
    spoilt = {"start_as_probe": True, "lr": 10.0, "max_gradient": 1e9, "epochs": 2, "contrastive": "none", "from_stage1": False}
    detector = NTFDetector.fit(splits, merge(tiny, {**shared, "stage2": spoilt}), tmp_path, device="cpu")
    images = [splits.test.dataset[row].image for row in range(len(splits.test))]
    assert detector.score(images) == pytest.approx(probe.score(images), abs=1e-4)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"]["epoch"] == 0
    assert max(epoch["validation_ap"] for epoch in metrics["stage2"]) <= metrics["best"]["validation_ap"]


def test_a_run_with_all_of_it(splits: DetectionSplits, tiny: NTFConfig, tmp_path) -> None:
    changes = {
        "stage1": {"freeze_encoder": True, "epochs": 1},
        "stage2": {"trace": "memory", "prototypes": 3, "start_as_probe": True, "encoder_rate": 0.1, "contrastive": "reals", "epochs": 1},
    }
    detector = NTFDetector.fit(splits, merge(tiny, changes), tmp_path, device="cpu")
    torch.manual_seed(tiny.seed)
    images = [splits.test.dataset[row].image for row in range(5)]
    again = NTFDetector.from_pretrained(tmp_path, device="cpu")
    assert again.trace.shape == (3, tiny.projection_dim)
    assert np.array_equal(again.distance(images), detector.distance(images))
    cosine = detector.embed(images).astype(np.float64) @ detector.trace.astype(np.float64).T
    assert detector.distance(images) == pytest.approx((1 - cosine.max(1)) / 2)
    teacher = load_teacher(tmp_path / "stage1")
    student = detector.network.encoder.state_dict()
    assert any(not torch.equal(value, student[key]) for key, value in teacher.encoder.state_dict().items())  # it learnt in stage 2


def test_stage_1_leaves_a_frozen_encoder_as_it_was(splits: DetectionSplits, tiny: NTFConfig, tmp_path) -> None:
    teachers = []
    for epochs in (1, 2):
        config = merge(tiny, {"encoder": "efficientnet-lite0", "encoder_layer": 2, "stage1": {"freeze_encoder": True, "epochs": epochs}})
        config = merge(config, {"stage2": {"epochs": 1}})
        NTFDetector.fit(splits, config, tmp_path / str(epochs), device="cpu")
        teachers.append(load_teacher(tmp_path / str(epochs) / "stage1"))
    first, second = (teacher.encoder.state_dict() for teacher in teachers)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not torch.equal(teachers[0].hom[0].weight, teachers[1].hom[0].weight)


FROZEN = {"freeze_encoder": True, "start_as_probe": True, "trace": "memory", "prototypes": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"test_crops": 3},
        {"encoder": "efficientnet-lite0", "encoder_layer": 2, "pooling": "mean_std", "adaptation": "lora", "lora": {"rank": 2}},
        {"encoder": "efficientnet-lite0", "encoder_layer": 2, "adaptation": "frozen", "frozen_statistics": True, "upscale": 2},
    ],
    ids=["crops", "lora", "frozen"],
)
def test_a_classifier_of_a_frozen_encoder_starts_as_the_probe_of_what_it_reads(
    splits: DetectionSplits, tiny: NTFConfig, tmp_path, changes: dict
) -> None:
    """At a rate that moves nothing: a logistic regression on the projection, whose better epochs would start from there."""
    stage2 = {**FROZEN, "lr": 1e-30, "epochs": 1, "contrastive": "reals"}
    detector = NTFDetector.fit(splits, merge(tiny, {**changes, "stage1": {"epochs": 1}, "stage2": stage2}), tmp_path, device="cpu")
    assert json.loads((tmp_path / "metrics.json").read_text())["best"]["epoch"] == 0  # an equal epoch is not better
    train, validation = (classifier_inputs(detector.network, data, detector.config, detector.device) for data in splits[:2])
    assert train.shape == (len(splits.train), detector.config.projection_dim)
    probe = fit_probe(train, splits.train.labels, validation, splits.validation.labels)
    logits = np.log(detector.score([splits.validation.dataset[row].image for row in range(len(splits.validation))]))
    logits -= np.log1p(-np.exp(logits))
    assert logits == pytest.approx(validation @ probe.weight + probe.bias, abs=1e-3)
    assert NTFDetector.from_pretrained(tmp_path, device="cpu").threshold == detector.threshold


def test_settings_that_exclude_each_other_are_refused_in_one_line(tiny: NTFConfig) -> None:
    for changes, named in (({"patch": 8}, "`patch`"), ({"student": "fresh"}, "`student`"), ({"from_stage1": False}, "contrastive")):
        with pytest.raises(InputError, match=named) as refused:
            merge(tiny, {"stage2": {**FROZEN, **changes}})
        assert str(refused.value).startswith("ntf: stage2: ")
        assert "Value error" not in str(refused.value)
        assert "\n" not in str(refused.value)

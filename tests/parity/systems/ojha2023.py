"""UniversalFakeDetect: CLIP's image tower under OpenAI's keys, its transforms, and its oracle threshold."""

from __future__ import annotations

import math
import re

import numpy as np
import torch

from ntf_model.baselines.ojha2023 import CLIPClassifier, Ojha2023, accuracies, oracle_threshold
from ntf_model.networks import clip
from ntf_model.networks.weights import count_parameters
from ntf_model.recipes.transforms import CLIP, Preprocess
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import check_by_key, compare_tensor, released


def check_network(case: Case) -> None:
    weights = case.weights("net")
    detector = released({"model": weights, "optimizer": {}, "total_steps": 0}, lambda file: Ojha2023.from_released(file, "cpu"))
    visual = {key.removeprefix("model.visual."): value for key, value in weights.items() if key.startswith("model.visual.")}
    written = clip.to_openai(detector.network.model.state_dict())
    assert written.keys() == visual.keys()
    assert all(torch.equal(written[key], visual[key]) for key in visual)
    text = sum(value.numel() for key, value in weights.items() if not key.startswith(("model.visual.", "fc.")))
    assert count_parameters(detector.network) + text == case.config["params"]
    shape = detector.config.tower
    expected = [case.config[key] for key in ("vision_width", "vision_layers", "vision_patch_size", "image_resolution", "embed_dim")]
    assert [shape.width, shape.layers, shape.patch, shape.size, shape.embedding] == expected
    with torch.inference_mode():
        images = torch.from_numpy(case.input("x"))
        case.compare("feature", detector.network.features(images))
        case.compare("logit", detector.network(images))


def check_layout(case: Case) -> None:
    """Every key and shape of the whole CLIP and the linear layer, without their values."""
    shapes, config = case.config["keys"], case.config
    assert len(shapes) == config["state_tensors"] == int(case.arrays["n_keys"])
    assert sum(math.prod(shape) for shape in shapes.values()) == config["total_params"]
    with torch.device("meta"):
        visual = {key.removeprefix("model.visual."): torch.empty(shape) for key, shape in shapes.items() if key.startswith("model.visual.")}
        network = CLIPClassifier(clip.build(**clip.shape_of(visual)))
    own = {key: list(value.shape) for key, value in clip.to_openai(network.model.state_dict()).items()}
    assert own == {key: list(value.shape) for key, value in visual.items()}
    assert count_parameters(network.model) == config["visual_params"]
    assert count_parameters(network.fc) == config["fc_params"]
    rest = [key.removeprefix("model.") for key in shapes if not key.startswith(("model.visual.", "fc."))]
    assert all(key.startswith(clip.TEXT_TOWER) for key in rest)
    assert set(config.get("openai_jit_extra_keys", ())) <= set(clip.JIT_EXTRAS)


def check_transform(case: Case) -> None:
    """What is scaled before the crop is written in the description alone."""
    size = case.arrays["tensor"].shape[1]
    resized = re.search(r"Resize\((\d+), bicubic", case.facts["description"])
    if resized:
        prepare = Preprocess(shorter=int(resized[1]), interpolation="bicubic", crop=size, stats=CLIP)
    else:
        tower = clip.build(width=64, layers=1, patch=size // 2, size=size, embedding=8)
        prepare = Ojha2023(Ojha2023.Config(init=None), CLIPClassifier(tower), "cpu").preprocess
    if "mean" in case.config:
        assert prepare.stats == (tuple(case.config["mean"]), tuple(case.config["std"]))
    compare_tensor(case, "tensor", prepare(case.arrays["image"]), CLIP[1])


def check_threshold(case: Case) -> None:
    trials = sorted({name.split("/")[0] for name in case.arrays})
    for trial in trials:
        labels, scores = case.arrays[f"{trial}/y"], case.arrays[f"{trial}/score"]
        threshold = oracle_threshold(labels, scores)
        assert threshold == case.arrays[f"{trial}/threshold"]
        for at, name in ((threshold, "thr"), (0.5, "0.5")):
            assert np.allclose(accuracies(labels, scores, at), case.arrays[f"{trial}/racc_facc_acc_at_{name}"], atol=1e-12)


check = check_by_key({"keys": check_layout, "params": check_network, "tensor": check_transform}, otherwise=check_threshold)

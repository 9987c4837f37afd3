"""Gragnaniello et al. 2021: whole pictures through the stride-1 ResNet-50, and large ones in tiles."""

from __future__ import annotations

import re

import torch

from ntf_model.baselines.grag2021 import Grag2021
from ntf_model.networks.weights import count_parameters, official_state
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import released


def check(case: Case) -> None:
    weights = case.weights("net")
    detector = released({"model": weights}, lambda file: Grag2021.from_released(file, "cpu"))
    assert count_parameters(detector.network) == case.config["params"]
    assert official_state(detector.network, detector.official).keys() == weights.keys()
    limits = {"tile_above": case.config["LIMIT_SIZE"], "tile": case.config["LIMIT_SLIDE"]}
    detector = Grag2021(detector.config.model_copy(update=limits), detector.network, "cpu")
    for name in case.arrays:
        if match := re.fullmatch(r"(logit|forward)_([a-z]+)", name):
            tensor = detector.preprocess(case.arrays[f"image_{match[2]}"])
            with torch.inference_mode():
                logit = detector.network(tensor[None])
            case.compare(name, logit.reshape(case.arrays[name].shape))
            score = detector.score([case.arrays[f"image_{match[2]}"]])[0]
            assert abs(score - torch.sigmoid(logit.double()).item()) < 1e-6
        elif match := re.fullmatch(r"logit_([a-z]+)_tiled_limit(\d+)_slide(\d+)", name):
            config = detector.config.model_copy(update={"tile_above": int(match[2]), "tile": int(match[3])})
            tiled = Grag2021(config, detector.network, "cpu")
            tensor = tiled.preprocess(case.arrays[f"image_{match[1]}"])
            score = tiled.score_tensors([tensor])[0]
            case.compare(name, torch.logit(torch.tensor(score)).float())
            if min(tensor.shape[1:]) > config.tile_above:
                case.compare(name, torch.tensor(tiled.tiled_logit(tensor)))

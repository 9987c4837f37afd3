"""XceptionNet: the network under the keys of either release, the test transform, and the box round a face."""

from __future__ import annotations

import re

import numpy as np
import torch

from ntf_model.baselines.xception import XceptionNet
from ntf_model.networks.weights import count_parameters
from ntf_model.networks.xception import plain_keys
from ntf_model.recipes.faces import square_box
from ntf_model.recipes.transforms import HALF, Preprocess
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import check_by_key, compare_pixels, compare_tensor, released


def check_network(case: Case) -> None:
    weights = case.weights("net")
    detector = released(dict(weights), lambda file: XceptionNet.from_released(file, "cpu"))
    network = detector.network
    assert count_parameters(network) == case.config["params"]
    assert network.state_dict().keys() == plain_keys(weights).keys()
    with torch.inference_mode():
        images = torch.from_numpy(case.input("x")) if "inputs" in case.facts else case.tensor("x")
        logits, features = network(images), network.features(images).mean((2, 3))
        outputs = {"logits": logits, "prob": detector.probability(logits), "features_mean": features}
    for name in case.arrays.keys() & outputs.keys():
        got = logits.softmax(1) if name == "prob" and case.arrays[name].ndim == 2 else outputs[name]
        case.compare(name, got)


def check_preprocessing(case: Case) -> None:
    if "tensor_u8" in case.arrays or "tensor" in case.arrays:
        image, name = case.arrays["image"], "tensor_u8" if "tensor_u8" in case.arrays else "tensor"
        release = "deepfakebench" if "CUBIC" in (case.facts["description"] + str(case.config)).upper() else "faceforensics"
        config = XceptionNet.Config(size=case.arrays[name].shape[1], release=release)
        detector = XceptionNet(config, torch.nn.Identity(), "cpu")
        prepare: Preprocess = detector.preprocess
        tensor = prepare(image)
        if name == "tensor":
            compare_tensor(case, name, tensor, HALF[1])
        else:
            compare_pixels(case, name, prepare.pixels(image).transpose(2, 0, 1))
            assert torch.allclose(tensor, (case.tensor(name).float() / 255 - 0.5) / 0.5, atol=1e-6)
        for name in case.arrays:
            if match := re.fullmatch(r"tensor_rows_(\d+)_(\d+)", name):
                rows, columns = slice(int(match[1]), int(match[2])), case.arrays[name].shape[2]
                assert np.allclose(tensor[:, rows, :columns].numpy(), case.arrays[name], atol=1e-6) or np.allclose(
                    tensor[:, rows, rows.start : rows.start + columns].numpy(), case.arrays[name], atol=1e-6
                )
    for name in case.arrays:
        if match := re.fullmatch(r"boxes_xys_in_(\d+)x(\d+)(?:_scale([\d.]+))?(?:_minsize(\d+))?", name):
            width, height = int(match[1]), int(match[2])
            minimum = int(match[4]) if match[4] else None
            boxes = [square_box(tuple(face), width, height, float(match[3] or 1.3), minimum) for face in case.arrays["faces_ltrb"]]
            assert np.array_equal(np.array(boxes), case.arrays[name]), f"{case.id} {name}"


check = check_by_key({"params": check_network}, otherwise=check_preprocessing)

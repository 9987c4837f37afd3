"""Self-Blended Images: EfficientNet-B4, the blend, the crops, and SAM with its schedule."""

from __future__ import annotations

import random
import re

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ntf_model.baselines._sbi_sam import SAM, linear_decay
from ntf_model.baselines.sbi import SelfBlendedImages
from ntf_model.recipes.blending import RATIOS, BlendDraw, blend, hull_mask, soft_mask
from ntf_model.recipes.faces import AROUND_BOX, AROUND_LANDMARKS, TEST_FACTORS, WIDE_FACTORS, box_of, crop_bounds, random_factors
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import check_by_key, released_network


def check_network(case: Case) -> None:
    detector = released_network(case, SelfBlendedImages, {"optimizer": {}, "epoch": 0}, "FFraw.tar")
    network = detector.network
    with torch.inference_mode():
        images = torch.from_numpy(case.input("x"))
        logits = network(images)
        case.compare("logits", logits)
        case.compare("prob", detector.probability(logits))
        case.compare("avgpool", network.pool(network.features(images)))


def legacy_draw(seed: int) -> BlendDraw:
    """The draws of the official code, from the two global generators that it uses."""
    rng, other = np.random.RandomState(seed), random.Random(seed)
    height, width = rng.randint(192, 257), rng.randint(192, 257)
    kernel_1, kernel_2 = other.randrange(5, 26, 2), other.randrange(5, 26, 2)
    sigma = rng.randint(5, 46)
    return BlendDraw(height, width, kernel_1, kernel_2, sigma, RATIOS[rng.randint(len(RATIOS))])


def check_blend(case: Case) -> None:
    arrays = case.arrays
    target, source = arrays["target"], arrays["source"]
    landmarks = arrays[next(name for name in arrays if name.startswith("landmarks"))]
    hull = hull_mask(landmarks, target.shape)
    assert np.array_equal(hull, arrays["hull_mask"])
    for seed in sorted({int(match[1]) for name in arrays if (match := re.match(r"seed(\d+)/", name))}):
        draw = legacy_draw(seed)
        assert np.array_equal(np.array(draw, dtype=np.float64), arrays[f"seed{seed}/draws"])
        for name, mask in (("blend_mask", hull.astype(np.float32)), ("blend_mask_from_uint8", hull)):
            if f"seed{seed}/{name}" in arrays:
                stored, got = arrays[f"seed{seed}/{name}"], soft_mask(mask, draw)
                step = round(got.shape[0] / stored.shape[0])  # large arrays are stored thinned out
                assert np.abs(got[::step, ::step] - stored).max() <= 1e-4, f"{case.id} seed {seed} {name}"
        name = f"seed{seed}/blended_uint8"
        got, rows_columns = (
            blend(source, target, hull.astype(np.float32), draw),
            re.search(r"rows (\d+):(\d+), cols (\d+):(\d+)", case.facts["arrays"][name].get("note", "")),
        )
        if rows_columns:
            top, bottom, left, right = map(int, rows_columns.groups())
            got = got[top:bottom, left:right]
        assert np.abs(got.astype(int) - arrays[name].astype(int)).max() <= 1, f"{case.id} {name}"
        assert np.mean(got != arrays[name]) < 1e-3, f"{case.id} {name}"


def check_crops(case: Case) -> None:
    arrays, image = case.arrays, case.arrays["image"]
    box = tuple(arrays["bbox"].ravel()) if "bbox" in arrays else None
    landmarks = next((arrays[name] for name in arrays if re.fullmatch(r"landmarks\d+", name)), None)
    if "test_crop_shape" in arrays:
        top, bottom, left, right = crop_bounds(box, image.shape, AROUND_BOX, TEST_FACTORS)
        crop = image[top:bottom, left:right]
        assert crop.shape == tuple(arrays["test_crop_shape"])
        name = next(name for name in arrays if re.match(r"test_crop_\d+_chw", name))
        size, step = int(re.search(r"crop_(\d+)", name)[1]), int((re.search(r"sub(\d+)", name) or [0, 1])[1])
        detector = SelfBlendedImages(SelfBlendedImages.Config(size=size), nn.Identity(), "cpu")
        resized = detector.preprocess.pixels(crop).transpose(2, 0, 1)[:, ::step, ::step]
        assert np.array_equal(resized, cv2.resize(crop, (size, size)).transpose(2, 0, 1)[:, ::step, ::step])
        assert np.abs(resized.astype(int) - arrays[name].astype(int)).max() <= 1
    if "margin_crop_shape" in arrays:
        top, bottom, left, right = crop_bounds(box_of(landmarks), image.shape, AROUND_LANDMARKS, WIDE_FACTORS)
        assert image[top:bottom, left:right].shape == tuple(arrays["margin_crop_shape"])
        assert np.allclose(landmarks - [left, top], arrays["margin_crop_landmarks"])
        assert np.allclose(arrays["bbox"] - [left, top], arrays["margin_crop_bbox"])
    for name in arrays:
        if match := re.fullmatch(r"seed(\d+)/train_y0_y1_x0_x1", name):
            got = {
                crop_bounds(around, image.shape, margins, random_factors(np.random.RandomState(int(match[1]))))
                for around, margins in ((box, AROUND_BOX), (box_of(landmarks), AROUND_LANDMARKS))
            }
            assert tuple(arrays[name]) in got, f"{case.id} {name}"


def check_sam(case: Case) -> None:
    """In float64, as the case was stored. The layers are read from the shapes of the weights."""
    weights = case.weights("mlp")
    labels = torch.tensor(case.config["labels"])
    rates = sorted({match[1] for name in case.arrays if (match := re.match(r"lr([\d.e-]+)/", name))})
    for rate in rates:
        network = mlp(weights).double()
        optimizer = SAM(network.parameters(), lr=float(rate), momentum=case.config["momentum"], rho=case.config["rho"])
        for step in range(len({name for name in case.arrays if re.fullmatch(r"x\d+", name)})):
            images = case.tensor(f"x{step}").double()

            def backward(network: nn.Module = network, images: torch.Tensor = images) -> torch.Tensor:
                loss = F.cross_entropy(network(images), labels)
                loss.backward()
                return loss

            losses = optimizer.step(backward)
            case.compare(f"lr{rate}/step{step}/losses_pass1_pass2", torch.stack(losses))
            for key, value in network.state_dict().items():
                case.compare(f"lr{rate}/step{step}/{key}", value.flatten())
    if "lr_by_epoch" in case.arrays:
        epochs = len(case.arrays["lr_by_epoch"])
        start = int(re.search(r"constant to epoch (\d+)", case.config["schedule"])[1])
        case.compare("lr_by_epoch", [linear_decay(case.arrays["lr_by_epoch"][0], epoch, epochs, start) for epoch in range(epochs)])


def mlp(weights: dict[str, torch.Tensor]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for key in sorted(key for key in weights if key.endswith(".weight")):
        while len(layers) < int(key.split(".")[0]):
            layers.append(nn.Tanh())
        layers.append(nn.Linear(*reversed(weights[key].shape)))
    network = nn.Sequential(*layers)
    network.load_state_dict(weights)
    return network


check = check_by_key({"params": check_network, "rho": check_sam, "hull_mask": check_blend}, otherwise=check_crops)

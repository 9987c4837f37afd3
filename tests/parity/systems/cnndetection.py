"""Wang et al. 2020: the network, the test transforms, and the blur and JPEG of training."""

from __future__ import annotations

import re

import torch

from ntf_model.baselines.wang2020 import Wang2020
from ntf_model.recipes.transforms import BlurJpeg, blur, center_crop, jpeg, resize_shorter, to_tensor
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import check_by_key, compare_pixels, compare_tensor, released_network


def check_network(case: Case) -> None:
    network = released_network(case, Wang2020, {"optimizer": {"state": {}, "param_groups": []}, "total_steps": 0}).network
    with torch.inference_mode():
        for name in case.facts["inputs"]:
            images = torch.from_numpy(case.input(name))
            case.compare(f"logit_{name}", network(images))
            case.compare(f"avgpool_{name}", network.features(images)[1])


def check_transform(case: Case) -> None:
    """In the authors' order; probabilities over 1 make the draws certain, and lists of one value leave nothing to draw."""
    options, image = case.config["options"], case.arrays["image"]
    assert not options["isTrain"], "training crops are drawn from torch's stream by torchvision"
    if not options["no_resize"]:
        image = resize_shorter(image, options["loadSize"], options["rz_interp"][0])
    if options["blur_prob"] >= 1:
        image = blur(image, options["blur_sig"][0])
    if options["jpg_prob"] >= 1:
        image = jpeg(image, options["jpg_qual"][0], options["jpg_method"][0])
    if not options["no_crop"]:
        image = center_crop(image, options["cropSize"])
    stats = tuple(case.config["mean"]), tuple(case.config["std"])
    compare_tensor(case, "tensor", to_tensor(image, stats), stats[1])
    if options["no_resize"] and options["blur_prob"] <= 0 and options["jpg_prob"] <= 0 and not options["no_crop"]:
        detector = Wang2020(Wang2020.Config(size=options["cropSize"]), torch.nn.Identity(), "cpu")
        compare_tensor(case, "tensor", detector.preprocess(case.arrays["image"]), stats[1])


def check_augmentation(case: Case) -> None:
    image, checked = case.arrays["image"], 0
    for name in case.arrays:
        if match := re.fullmatch(r"blur_sigma([\d.]+)", name):
            compare_pixels(case, name, blur(image, float(match[1])))
        elif match := re.fullmatch(r"(cv2|pil)_q(\d+)", name):
            compare_pixels(case, name, jpeg(image, int(match[2]), match[1]))
        else:
            continue
        checked += 1
    assert checked == len(case.arrays) - 1
    assert BlurJpeg().quality == (30, 100)


check = check_by_key({"params": check_network, "options": check_transform}, otherwise=check_augmentation)

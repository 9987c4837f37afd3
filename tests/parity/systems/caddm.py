"""CADDM: the network with each backbone, anchors and their targets and loss, and the aligned crop."""

from __future__ import annotations

import gc
import re

import numpy as np
import torch

from ntf_model.baselines._caddm.boxes import VARIANCES, Anchors, match, multibox_loss
from ntf_model.baselines.caddm import DETECTION_WEIGHT, CADDMDetector
from ntf_model.networks.weights import count_parameters
from ntf_model.recipes.faces import align
from ntf_model.recipes.transforms import Preprocess
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import released


def check(case: Case) -> None:
    if "params" in case.config:
        check_network(case)
        gc.collect()
        return
    if "priors" in case.arrays:
        check_anchors(case)
    if "align_out" in case.arrays:
        check_alignment(case)


def check_network(case: Case) -> None:
    contents = {"network": case.weights("net"), "opt_state": {}, "epoch": 0}
    keys = set(contents["network"])
    detector = released(contents, lambda file: CADDMDetector.from_released(file, "cpu"), "released.pkl")
    network = detector.network
    assert detector.config.backbone == case.config["backbone"]
    assert count_parameters(network) == case.config["params"]
    assert {detector.official(key) for key in network.state_dict()} == keys
    with torch.inference_mode():
        out = network(torch.from_numpy(case.input("x")))
    assert out.loc.shape[1] == case.config["priors"]
    outputs = {**out._asdict(), "prob": out.logits.softmax(1)}
    for name in case.arrays.keys() & outputs.keys():
        case.compare(name, outputs[name])
    assert torch.allclose(detector.probability(out).float(), outputs["prob"][:, 1], atol=1e-6)


def check_anchors(case: Case) -> None:
    config = case.config
    given = {
        "image_size": "min_dim",
        "feature_maps": "feature_maps",
        "steps": "steps",
        "min_sizes": "min_sizes",
        "max_sizes": "max_sizes",
        "clip": "clip",
    }
    anchors = Anchors(**{own: config[official] for own, official in given.items()}).boxes()
    case.compare("priors", anchors, atol=1e-6)
    assert tuple(config["encode_variances"]) == VARIANCES
    targets = []
    for index in range(sum(bool(re.fullmatch(r"box\d+", name)) for name in case.arrays)):
        loc, conf = match(case.tensor(f"box{index}"), anchors, config["match_threshold"])
        case.compare(f"loc_t{index}", loc, atol=1e-5)
        case.compare(f"conf_t{index}", conf.float(), atol=1e-6)
        targets.append((loc, conf))
    if "pred_loc" not in case.arrays:
        return
    # A picture of the batch whose offsets get no gradient was real: it has no matched anchor.
    genuine = ~case.tensor("grad_loc").flatten(1).any(1)
    empty = torch.zeros_like(targets[0][0]), torch.zeros_like(targets[0][1])
    batch = [empty if real else targets[index] for index, real in enumerate(genuine)]
    loc, conf = (case.tensor(name).requires_grad_() for name in ("pred_loc", "pred_conf"))
    loss_loc, loss_conf = multibox_loss(loc, conf, torch.stack([row[0] for row in batch]), torch.stack([row[1] for row in batch]))
    case.compare("loss_loc", loss_loc, atol=1e-5)
    case.compare("loss_conf", loss_conf, atol=1e-5)
    grads = torch.autograd.grad(loss_loc + loss_conf, [loc, conf])
    case.compare("grad_loc", grads[0], atol=1e-6)
    case.compare("grad_conf", grads[1], atol=1e-6)
    assert str(DETECTION_WEIGHT) in config["loss_total"]


def check_alignment(case: Case) -> None:
    settings = case.config["align"]
    landmarks = case.arrays[next(name for name in case.arrays if re.fullmatch(r"align_landmarks\d+", name))]
    optional = {key: settings[key] for key in ("translation", "rotation") if key in settings}
    stretch = settings.get("sa", 1), settings.get("sb", 1)
    crop, points = align(
        case.arrays["align_image"],
        landmarks,
        settings["output_size"],
        settings["face_width"],
        settings["scale"],
        stretch=stretch,
        **optional,
    )
    assert np.abs(crop.astype(int) - case.arrays["align_out"].astype(int)).max() <= 1
    assert np.abs(points - case.arrays["align_out_landmarks"]).max() < 1e-6
    fed = Preprocess(square=crop.shape[0], library="cv2", bgr=True)(crop)
    assert np.array_equal(fed.numpy(), crop[..., ::-1].transpose(2, 0, 1).astype(np.float32))

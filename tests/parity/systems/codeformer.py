"""CodeFormer's network, and cutting out and pasting back as its copy of facexlib does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from generators.faces.restoring import CODEFORMER
from generators.images import to_float
from generators.methods.codeformer import CodeFormer
from tests.parity.cases import Case
from tests.parity.systems._faces import check_kind, from_released_form, rgb


def check(case: Case) -> None:
    check_kind(case, CODEFORMER, check_network)


def check_network(case: Case) -> None:
    model = from_released_form(CodeFormer, case, {"n_head": case.config["network"]["n_head"]})
    assert model.resolution == case.config["network"]["img_size"]
    for run in case.config["runs"]:
        if "face" in run:
            face = rgb(case.arrays[run["face"]])[None]
            case.compare(run["tensor"], to_float(face))
            edited = model.edit(face, [0], fidelity_weight=run["w"], adain=run["adain"], region="picture")
            case.compare(run["restored"], rgb(edited[0]))
            continue
        x = case.tensor(run["x"]) if run["x"] in case.arrays else torch.from_numpy(case.input(run["x"]))
        with torch.inference_mode():
            case.compare(run["out"], model.network(x, run["w"], run["adain"]))
    check_parts(case, model, x)


@torch.inference_mode()
def check_parts(case: Case, model: CodeFormer, x: torch.Tensor) -> None:
    """What the encoder sees and the codes that the transformer picks: the codes exactly."""
    features, _ = model.network.encode(x)
    logits = model.network.logits(features)
    case.compare("codes", logits.argmax(2))
    if "logits_first32" in case.arrays:
        case.compare("logits_first32", logits[:, :, :32])
    if "logits" in case.arrays:
        case.compare("logits", logits)
    if "lq_feat" in case.arrays:
        case.compare("lq_feat", features)
    else:
        check_stored_features(case, features.numpy())


def check_stored_features(case: Case, features: Any) -> None:
    means, middle = case.arrays["lq_feat__pool8"], case.arrays["lq_feat__crop"]
    count, channels, height, width = features.shape
    pooled = features.astype(np.float64).reshape(count, channels, height // 8, 8, width // 8, 8).mean((3, 5))
    top, left = (height - middle.shape[2]) // 2, (width - middle.shape[3]) // 2
    crop = features[:, :, top : top + middle.shape[2], left : left + middle.shape[3]]
    for got, want in ((pooled, means), (crop, middle)):
        assert np.abs(got - want).max() <= case.tolerance("lq_feat"), f"{case.id}: the encoder's features differ"

"""GFPGAN's network, facexlib's face parser, and cutting out and pasting back."""

from __future__ import annotations

import numpy as np
import torch

from generators.faces.restoring import FACEXLIB
from generators.images import to_float
from generators.methods.gfpgan import GFPGAN
from tests.parity.cases import Case
from tests.parity.systems._faces import check_kind, from_released_form, rgb


def check(case: Case) -> None:
    check_kind(case, FACEXLIB, check_network)


def check_network(case: Case) -> None:
    model = from_released_form(GFPGAN, case, {"input_is_latent": case.config["network"]["input_is_latent"]})
    assert model.resolution == case.config["network"]["out_size"]
    for run in case.config["runs"]:
        if "face" in run:
            face = rgb(case.arrays[run["face"]])[None]
            case.compare(run["tensor"], to_float(face))
            case.compare(run["restored"], rgb(model.edit(face, [0], noise_mode="const", region="picture")[0]))
            continue
        with torch.inference_mode():
            x = case.tensor(run["x"]) if run["x"] in case.arrays else torch.from_numpy(np.asarray(case.input(run["x"])))
            case.compare(run["out"], model.network(x))
            for name, picture in zip(run.get("rgb", []), model.network.early_pictures(x), strict=False):
                case.compare(name, picture)

"""GFPGAN's network, facexlib's face parser, and cutting out and pasting back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from generators.checkpoints import Checkpoint
from generators.faces.restoring import FACEXLIB
from generators.images import to_float
from generators.methods.gfpgan import GFPGAN
from tests.parity.cases import Case
from tests.parity.systems._faces import check_parsing, check_pasting, rgb


def check(case: Case) -> None:
    kind = case.config["kind"]
    if kind == "align_and_paste":
        check_pasting(case, FACEXLIB)
    elif kind == "parsing":
        check_parsing(case)
    else:
        check_network(case)


def check_network(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, key = Path(folder) / "GFPGAN.pth", case.config["checkpoint_key"]
        torch.save({key: case.weights(key)}, file)
        model = GFPGAN.load(Checkpoint(file, {"input_is_latent": case.config["network"]["input_is_latent"]}))
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

"""The UNet of ermongroup/ddim and luping-liu/PNDM, from its state dict, as the ddim method loads it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch

from generators.checkpoints import Checkpoint
from generators.methods.ddim import DDIM
from tests.parity.cases import Case, _normal


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.ckpt"
        torch.save(case.weights("model"), file)
        model = DDIM.load(Checkpoint(file, {"size": case.config["size"]}))
    key = re.search(r"'(input:[^']+)'", case.facts["x_note"])[1]
    x = torch.from_numpy(_normal(key, tuple(case.facts["arrays"]["eps"]["shape"])))
    assert torch.equal(x[..., :8, :8], case.tensor("x_crop")), "the input does not come out as stored"
    assert model.resolution == case.config["size"]
    with torch.inference_mode():
        case.compare("eps", model.predict(x, case.tensor("t")))

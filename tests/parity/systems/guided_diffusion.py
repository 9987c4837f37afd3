"""openai/guided-diffusion's UNet, from its state dict, as the ddpm method loads it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import torch

from generators.checkpoints import Checkpoint
from generators.methods.ddpm import DDPM
from tests.parity.cases import Case, _normal


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt"
        torch.save(case.weights("model"), file)
        model = DDPM.load(Checkpoint(file, case.config))
    x, t = noted_input(case), case.tensor("t")
    with torch.inference_mode():
        case.compare("out", model.predict(x, t))
        if "out_t0" in case.arrays or "out_t0__crop" in case.arrays:
            case.compare("out_t0", model.predict(x, torch.zeros_like(t)))


def noted_input(case: Case) -> torch.Tensor:
    """The input x that `x_note` describes: normal numbers under a key, scaled."""
    note = case.facts["x_note"]
    key, scale = re.search(r"'(input:[^']+)'", note)[1], re.search(r"\*\s*float32\(([\d.]+)\)", note)
    out = case.facts["arrays"]["out"]["shape"]
    x = torch.from_numpy(_normal(key, (out[0], 3, *out[2:])) * np.float32(scale[1] if scale else 1))
    assert torch.equal(x[..., :8, :8], case.tensor("x_crop")), "the input does not come out as stored"
    return x

"""CodeFormer (Zhou et al., NeurIPS 2022): restores faces from a codebook of good ones. Its licence forbids commercial use.

A checkpoint is codeformer.pth. The component `parsing` is facexlib's parsing_parsenet.pth. Option `n_head` (default 8): the number of heads
of its attention, which no tensor tells.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from generators import base
from generators.base import Output
from generators.checkpoints import Checkpoint, read_weights
from generators.faces.restoring import CODEFORMER
from generators.images import fetch_uint8
from generators.networks.restoration import codeformer
from generators.registry import register
from generators.restorer import FaceRestorer, RestorationParameters, released_state


@register("codeformer")
class CodeFormer(FaceRestorer):
    """Nothing in it is random: the seeds of an edit change nothing."""

    title = "CodeFormer"
    licence = "NTU S-Lab License 1.0 (non-commercial)"
    paste_style = CODEFORMER
    batch_size = 4

    class Options(base.Options):
        n_head: int = Field(8, ge=1)

    class Parameters(RestorationParameters):
        fidelity_weight: float = Field(0.5, ge=0, le=1, description="w of the paper: 0 is the best face, 1 the most faithful one")
        adain: bool = True  # the colours of the damaged face, as the official tool has it

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> CodeFormer:
        n_head = int(checkpoint.option("n_head", 8))
        network = codeformer.CodeFormer.from_state(released_state(read_weights(checkpoint.path)), checkpoint.path.name, n_head)
        return cls(network, checkpoint, device, dtype)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Parameters) -> Output:
        return fetch_uint8(self.network(self._network_input(images), settings.fidelity_weight, settings.adain))

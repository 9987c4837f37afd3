"""The safety checker that Stable Diffusion 1 and its relatives come with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.errors import CheckpointError
from generators.folder_weights import load_network
from generators.quiet import libraries_quiet

SAFETY_PARTS = ("safety_checker", "feature_extractor")
FLAGGED = "the safety checker flags it"


class SafetyChecker:
    """CLIP features of an image against stored concepts."""

    def __init__(self, network: Any, processor: Any, device: str | torch.device):
        self.network = network.eval().to(device)
        self.processor = processor

    @classmethod
    def find(cls, folder: Path, device: str | torch.device) -> SafetyChecker | None:
        """The checker in a pipeline's folder, or None if it has none."""
        if not all((folder / name).is_dir() for name in SAFETY_PARTS):
            return None
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessorPil

        try:
            network = load_network(folder / SAFETY_PARTS[0], StableDiffusionSafetyChecker)
            with libraries_quiet():
                processor = CLIPImageProcessorPil.from_pretrained(folder / SAFETY_PARTS[1], local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise CheckpointError(f"{folder / SAFETY_PARTS[0]} cannot be read ({reason})", "Fetch the pipeline again") from None
        return cls(network, processor, device)

    def flags(self, images: np.ndarray) -> list[int]:
        """Which of `uint8` `[N, H, W, 3]` it flags."""
        features = self.processor(list(images), return_tensors="pt").pixel_values.to(self.network.device)
        _, flagged = self.network(images=images.copy(), clip_input=features)  # it blackens what it is given
        return [row for row, flag in enumerate(flagged) if flag]

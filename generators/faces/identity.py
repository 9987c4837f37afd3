"""Who a face is: unit vectors whose dot product is the similarity of two faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from generators.base import Crop
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.faces.onnx_models import load_insightface
from generators.images import to_float
from generators.networks.faces.arcface import identity_vectors, load_arcface


class IdentityNetwork(Protocol):
    """`embed` takes faces `uint8` `[N, H, W, 3]` aligned as `crop` says and gives float32 `[N, D]`, each row of length one.

    D is the network's own; 128 and 512 are common.
    """

    crop: Crop

    def embed(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray: ...


class OnnxIdentity:
    """A recognition model of insightface: an .onnx file or the folder of a pack."""

    def __init__(self, path: Path, device: str | torch.device = "cpu"):
        self.model: Any = load_insightface(path, "recognition", device)
        side, other = self.model.input_size
        if side != other:
            raise InputError(f"{path} takes {side}x{other} images", "An identity network takes square ones")
        self.crop = Crop("arcface", side)
        fixed = self.model.input_shape[0]
        self.largest_batch = fixed if isinstance(fixed, int) else None  # some files are made for one image at a time

    def embed(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        batch_size = self.largest_batch or batch_size
        bgr = images[..., ::-1]
        parts = [self.model.get_feat(list(bgr[start : start + batch_size])) for start in range(0, len(images), batch_size)]
        return unit(np.concatenate(parts))


class ArcFaceIdentity:
    """SimSwap's ArcFace, on the crops that SimSwap gives it."""

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu", crop: Crop = Crop("simswap", 224)):  # noqa: B008
        self.network = load_arcface(checkpoint).fold().to(device)
        self.device = torch.device(device)
        self.crop = crop

    @torch.inference_mode()
    def embed(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        parts = [
            identity_vectors(self.network, to_float(images[start : start + batch_size], 0.0, 1.0, self.device)).cpu().numpy()
            for start in range(0, len(images), batch_size)
        ]
        return unit(np.concatenate(parts))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of `[N, D]` scaled to length one."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarity in [-1, 1] of two sets of vectors, row by row: `[..., D]` and `[..., D]` to `[...]`."""
    return (unit(first) * unit(second)).sum(-1)

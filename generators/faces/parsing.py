"""Face parsing: which part of a face each pixel shows (`generators.networks.faces.bisenet.CLASSES`), and for restored faces
(`generators.networks.faces.parsenet.FACE_LABELS`)."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from generators.checkpoints import Checkpoint, read_weights
from generators.images import imagenet_normalise, to_float
from generators.networks.faces import parsenet
from generators.networks.faces.bisenet import BiSeNet
from generators.networks.faces.parsenet import ParseNet

INPUT_SIZE = 512  # what the released network was trained at


class FaceParser:
    """BiSeNet from a released `79999_iter.pth` (or safetensors with the same keys), BatchNorm folded."""

    def __init__(self, network: BiSeNet, device: torch.device):
        self.network = network.fold().to(device)
        self.device = device

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> FaceParser:
        """Raises CheckpointError if the file is not a BiSeNet face parser."""
        return cls(BiSeNet.from_state(read_weights(checkpoint.path).tensors, checkpoint.path.name), torch.device(device))

    @torch.inference_mode()
    def labels(self, images: np.ndarray, batch_size: int = 8, resize: Literal["nearest", "bilinear"] = "nearest") -> np.ndarray:
        """Label maps `uint8` `[N, 512, 512]` of aligned faces `uint8` `[N, H, W, 3]`.

        `resize` is how the images get to 512 px: "nearest" as in SimSwap, "bilinear" as the network was trained.
        """
        parts = [self._labels(images[start : start + batch_size], resize) for start in range(0, len(images), batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, INPUT_SIZE, INPUT_SIZE), np.uint8)

    def _labels(self, images: np.ndarray, resize: str) -> np.ndarray:
        pixels = imagenet_normalise(to_float(images, 0.0, 1.0, self.device))
        if pixels.shape[2:] != (INPUT_SIZE, INPUT_SIZE):
            smooth = {"align_corners": False, "antialias": True} if resize == "bilinear" else {}
            pixels = F.interpolate(pixels, (INPUT_SIZE, INPUT_SIZE), mode=resize, **smooth)
        return self.network(pixels).argmax(1).to(torch.uint8).cpu().numpy()


class RestorationParser:
    """ParseNet from a released `parsing_parsenet.pth`: the parser of GFPGAN and CodeFormer, whose labels differ from BiSeNet's."""

    def __init__(self, network: ParseNet, device: torch.device):
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> RestorationParser:
        """Raises CheckpointError if the file is not a ParseNet."""
        return cls(ParseNet.from_state(read_weights(checkpoint.path).tensors, checkpoint.path.name), torch.device(device))

    @staticmethod
    def pixels(faces: np.ndarray) -> torch.Tensor:
        """Faces `uint8` RGB `[N, H, W, 3]` as the network takes them: float32 `[N, 3, 512, 512]` in [-1, 1]."""
        size = (parsenet.INPUT_SIZE, parsenet.INPUT_SIZE)
        return to_float(np.stack([cv2.resize(face, size, interpolation=cv2.INTER_LINEAR) for face in faces]))

    @torch.inference_mode()
    def labels(self, faces: np.ndarray) -> np.ndarray:
        """Label maps `uint8` `[N, 512, 512]` of aligned faces `uint8` `[N, H, W, 3]`."""
        maps = [self.network(self.pixels(face[None]).to(self.device)).argmax(1)[0].to(torch.uint8).cpu().numpy() for face in faces]
        return np.stack(maps)

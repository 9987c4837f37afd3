"""INSwapper, insightface's swapper (`inswapper_128.onnx`): identity vector and aligned target in, swapped face out.

The checkpoint is the .onnx file. The component `identity` is the recognition model that it was made for (`w600k_r50.onnx`, or the folder
of the pack buffalo_l). Nothing in the file but its graph and its weights is used; insightface and onnxruntime are imported on loading.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from generators.base import Crop, Generator
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError
from generators.faces.identity import IdentityNetwork, OnnxIdentity, unit
from generators.faces.onnx_models import providers
from generators.registry import register


@register("inswapper")
class INSwapper(Generator):
    """INSwapper. Nothing in it is random: the seeds of a swap change nothing."""

    title = "INSwapper"
    family = "GAN"
    kinds = ("swap",)
    crop: Crop  # set by `load`
    licence = "InsightFace-non-commercial-research"
    networks = ()  # it is onnxruntime that runs it
    components = ("identity",)

    def __init__(self, session: Any, emap: np.ndarray, identity: IdentityNetwork):
        self.session = session
        self.emap = emap
        self.identity = identity
        images, latents = session.get_inputs()
        self.names = (images.name, latents.name)
        self.crop = Crop("arcface", int(images.shape[2]))
        self.one_by_one = isinstance(images.shape[0], int)  # the released file is made for a batch of one

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> INSwapper:
        """The file decides the precision; `dtype` has no effect. Raises CheckpointError if the file is not an INSwapper."""
        import onnx
        import onnxruntime

        path = checkpoint.path
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint file {path}", "Put inswapper_128.onnx there")
        try:
            graph = onnx.load(path, load_external_data=False).graph
            session = onnxruntime.InferenceSession(str(path), providers=providers(device))
        except Exception as error:  # onnx, protobuf and onnxruntime have no common base for a damaged file
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            raise CheckpointError(f"{path} is not a whole ONNX model ({reason})", "Fetch it again: it may be cut short") from None
        emap: Any = onnx.numpy_helper.to_array(graph.initializer[-1]) if graph.initializer else np.empty(0)  # by the maker's convention
        shapes: list[Any] = [tuple(tensor.shape) for tensor in session.get_inputs()]
        images_fit = len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][1] == 3 and shapes[0][2] == shapes[0][3]
        if not (images_fit and emap.ndim == 2 and shapes[1][1] == emap.shape[1] and len(session.get_outputs()) == 1):
            raise CheckpointError(
                f"{path} is not an INSwapper: it has inputs {shapes}", "It should take images and latents, as inswapper_128.onnx does"
            )
        identity = OnnxIdentity(checkpoint.component("identity").path, device)
        return cls(session, emap.astype(np.float32), identity)

    @property
    def resolution(self) -> int:
        return self.crop.size

    def latents(self, sources: np.ndarray) -> np.ndarray:
        """What the network is told of the source: its unit identity vector through `emap`, of length one again; float32 `[N, D]`."""
        vectors = self.embed_faces(sources)
        if vectors.shape[1] != len(self.emap):
            raise CheckpointError(
                f"the identity network gives {vectors.shape[1]} values, INSwapper takes {len(self.emap)}",
                "Use the recognition model of buffalo_l",
            )
        return unit(vectors @ self.emap)

    def embed_faces(self, faces: np.ndarray) -> np.ndarray:
        return self.identity.embed(_recognition_crop(faces, self.identity.crop.size))

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        latents = self.latents(sources)
        blobs = np.ascontiguousarray(targets.transpose(0, 3, 1, 2), np.float32) / 255
        step = 1 if self.one_by_one else len(blobs)
        swapped = [
            self.session.run(None, {self.names[0]: blobs[i : i + step], self.names[1]: latents[i : i + step]})[0]
            for i in range(0, len(blobs), step)
        ]
        return np.clip(np.concatenate(swapped) * 255, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def _recognition_crop(images: np.ndarray, side: int) -> np.ndarray:
    """The 112 px arcface crops that lie inside 128 px ones: the same template without its margin (`align.template_points`)."""
    import cv2

    size = images.shape[1]
    if size % 112:
        ratio = size / 128
        images = images[:, : round(112 * ratio), round(8 * ratio) : round(120 * ratio)]
    if images.shape[1] == side:
        return np.ascontiguousarray(images)
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])

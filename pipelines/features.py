"""Networks of the user's choice from .onnx files: features for FID, for near-duplicates, and scores of a classifier."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from generators.errors import InputError
from generators.faces.onnx_models import providers


class FeatureNetwork:
    """A network of the user's choice from an .onnx file: RGB float32 `[N, 3, H, W]` in [0, 1] in, features `[N, D]` out.

    H and W are what the file fixes, or the images' own where it leaves them open; the network brings its own normalisation.
    """

    def __init__(self, path: Path, device: str = "cpu"):
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=providers(device))
        except Exception as error:  # onnxruntime's own errors have no common base
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            raise InputError(f"{path} cannot be loaded as a feature network ({reason})", "Give an .onnx file") from None
        (self._input, *others), (self._output, *_) = self._session.get_inputs(), self._session.get_outputs()
        if others or len(self._input.shape) != 4:
            raise InputError(
                f"{path} takes {[tensor.shape for tensor in self._session.get_inputs()]}", "Give one that takes [N, 3, H, W] alone"
            )
        self.name = path.stem

    def embed(self, images: Iterable[np.ndarray]) -> np.ndarray | None:
        """Features `[N, D]` of `uint8` RGB images `[H, W, 3]`, which are shrunk or enlarged where the file fixes a size; None of none."""
        height, width = self._input.shape[2:]
        rows = []
        for image in images:
            sized = image
            if isinstance(height, int) and isinstance(width, int) and image.shape[:2] != (height, width):
                sized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if height < len(image) else cv2.INTER_CUBIC)
            pixels = np.ascontiguousarray(sized.transpose(2, 0, 1)[None], np.float32) / 255
            rows.append(np.asarray(self._session.run([self._output.name], {self._input.name: pixels})[0]).reshape(-1))
        return np.stack(rows) if rows else None

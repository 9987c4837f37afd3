"""Finding faces: insightface's detectors, OpenCV's YuNet, and scikit-image's cascade, which needs no file.

All are used alike: `detector.detect(image)`, `image` `uint8` RGB `[H, W, 3]`, gives a list of `Face`, the best first.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch

from generators.errors import InputError
from generators.faces.onnx_models import load_insightface, onnx_files, resized

# Where the landmarks lie in a box of scikit-image's cascade, as parts of its side: medians over aligned portraits.
CASCADE_LANDMARKS = np.array([[0.306, 0.377], [0.692, 0.381], [0.490, 0.622], [0.331, 0.774], [0.671, 0.777]], np.float32)


@dataclass(frozen=True)
class Face:
    """`box` is (left, top, right, bottom) and `landmarks` `[5, 2]` float32 (x, y), both in pixels of the image; see `align` for the order.
    `score` is in [0, 1], and 1 where a detector gives none. `estimated` landmarks were guessed from the box alone."""

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float
    estimated: bool = False

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


CROP_SIDE = 320  # pixels that a detector sees of an aligned crop: as exact there as at 640 px, for a quarter of the work


class Detector(ABC):
    """`padding` is the margin, as a part of each side, that an image gets before the first attempt: detectors miss most faces that fill
    their image. Where that finds nothing, the image is tried as it is, so that small faces are not lost.

    A detector may be used by several threads. One that keeps a state between its calls (`has_state`) then works for one of them at a time.
    """

    padding: float = 0.5
    has_state: bool = True
    _busy: threading.Lock

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Every detector has a lock of its own, also one that writes its own `__init__`."""
        detector = super().__new__(cls)
        detector._busy = threading.Lock()
        return detector

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces of `image`, `uint8` RGB `[H, W, 3]`, by falling score, then by falling area; an empty list if there is none."""
        if not (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            raise InputError(f"face detection takes uint8 RGB [H, W, 3], not {image.dtype} {list(image.shape)}")
        with self._busy if self.has_state else nullcontext():
            faces = self._find_padded(image) or self._find(np.ascontiguousarray(image))
        return sorted(faces, key=lambda face: (-face.score, -face.area))

    def detect_aligned(self, crop: np.ndarray) -> list[Face]:
        """Faces of an aligned crop, `uint8` RGB `[S, S, 3]`, in its pixels, the best first. No margin is needed: the face lies in the
        middle and its landmarks are near those of a template."""
        with self._busy if self.has_state else nullcontext():
            faces = self._find_in_crop(np.ascontiguousarray(crop))
        return sorted(faces, key=lambda face: (-face.score, -face.area))

    def _find_in_crop(self, crop: np.ndarray) -> list[Face]:
        return self._find(crop)

    def _find_padded(self, image: np.ndarray) -> list[Face]:
        x, y = round(image.shape[1] * self.padding), round(image.shape[0] * self.padding)
        faces = self._find(cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_CONSTANT))
        move = np.array([x, y, x, y])
        moved = [
            replace(face, box=_box(np.array(face.box) - move), landmarks=face.landmarks - np.array([x, y], np.float32)) for face in faces
        ]
        return [face for face in moved if _overlaps(face.box, image)]

    @abstractmethod
    def _find(self, image: np.ndarray) -> list[Face]:
        """Faces of one contiguous image, in any order."""


class InsightFaceDetector(Detector):
    """SCRFD or RetinaFace from an insightface pack: an .onnx file or the pack's folder."""

    has_state = False

    def __init__(self, path: Path, device: str | torch.device = "cpu", threshold: float = 0.5):
        self.model: Any = load_insightface(path, "detection", device)
        settings = {"ctx_id": -1 if torch.device(device).type == "cpu" else 0, "det_thresh": threshold}
        self.model.prepare(**settings, input_size=(640, 640))
        self.small: Any = resized(self.model, CROP_SIDE)
        if self.small is not self.model:
            self.small.prepare(**settings, input_size=(CROP_SIDE, CROP_SIDE))

    def _find(self, image: np.ndarray) -> list[Face]:
        return self._faces(self.model, image)

    def _find_in_crop(self, crop: np.ndarray) -> list[Face]:
        if self.small is self.model:  # its file takes one size only: as any picture
            return self._find_padded(crop) or self._find(crop)
        return self._faces(self.small, crop)

    def _faces(self, model: Any, image: np.ndarray) -> list[Face]:
        boxes, landmarks = model.detect(image[..., ::-1])
        if landmarks is None:
            raise InputError("this detector gives no landmarks", "Use a model with key points (its name says bnkps or kps)")
        return [Face(_box(box), points.astype(np.float32), float(box[4])) for box, points in zip(boxes, landmarks, strict=True)]


class YuNetDetector(Detector):
    """YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) through OpenCV."""

    work_side = 640  # longer side in pixels of what the network sees: it is made for faces of up to about 300 px

    def __init__(self, path: Path, threshold: float = 0.6):
        try:
            self.model = cv2.FaceDetectorYN.create(str(path), "", (320, 320), threshold)
        except cv2.error as error:
            raise InputError(f"{path} cannot be loaded as YuNet ({error.err})", "Fetch it again from the OpenCV model zoo") from None

    def _find(self, image: np.ndarray) -> list[Face]:
        scale = min(1.0, self.work_side / max(image.shape[:2]))
        small = _shrink(image, scale)
        self.model.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self.model.detect(small[..., ::-1])
        if rows is None:
            return []
        ratio = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]])
        corners = np.column_stack([rows[:, :2] * ratio, (rows[:, :2] + rows[:, 2:4]) * ratio])
        points = (rows[:, 4:14].reshape(-1, 5, 2) * ratio).astype(np.float32)
        return [Face(_box(box), five, float(score)) for box, five, score in zip(corners, points, rows[:, 14], strict=True)]


class CascadeDetector(Detector):
    """scikit-image's cascade of local binary patterns for frontal faces: part of the package, no file to fetch. It finds boxes; the
    landmarks are estimated from them, good enough for a rough alignment and no more."""

    work_side = 256
    smallest = 40  # side of a face in the shrunk image, in pixels; the cascade was trained at 24

    def __init__(self) -> None:
        import skimage.data
        from skimage.feature import Cascade

        self.cascade = Cascade(skimage.data.lbp_frontal_face_cascade_filename())

    def _find(self, image: np.ndarray) -> list[Face]:
        small = _shrink(image, min(1.0, self.work_side / max(image.shape[:2])))
        side = min(small.shape[:2])
        if side < self.smallest:
            return []
        boxes = self.cascade.detect_multi_scale(
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
            scale_factor=1.2,
            step_ratio=1,
            min_size=(self.smallest, self.smallest),
            max_size=(side, side),
        )
        ratio = image.shape[1] / small.shape[1]
        faces: list[Face] = []
        for box in sorted(boxes, key=lambda box: -box["width"]):
            corner, width = np.array([box["c"], box["r"]]) * ratio, box["width"] * ratio
            if not any(_contains(face.box, corner + width / 2) for face in faces):
                landmarks = (corner + CASCADE_LANDMARKS * width).astype(np.float32)
                faces.append(Face(_box([*corner, *(corner + width)]), landmarks, 1.0, estimated=True))
        return faces


def load_detector(path: Path | None = None, device: str | torch.device = "cpu") -> Detector:
    """The detector in `path`: YuNet or an insightface model as an .onnx file, or the folder of an insightface pack. Without a path, the
    cascade. Raises InputError, saying what to put where, if there is no detector."""
    if path is None:
        return CascadeDetector()
    file = onnx_files(path, "detection")[0]
    return YuNetDetector(file) if _is_yunet(file) else InsightFaceDetector(path, device)


def _is_yunet(file: Path) -> bool:
    """YuNet and insightface's detectors both have many outputs; YuNet's are named by what they are."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        outputs = onnx.load(file, load_external_data=False).graph.output
    except (DecodeError, OSError) as error:
        raise InputError(f"{file} is not an ONNX model ({error})", "Fetch it again: it may be cut short") from None
    return any(output.name.startswith("obj_") for output in outputs)


def _shrink(image: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _box(values: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in values[:4])
    return left, top, right, bottom


def _contains(box: tuple[float, float, float, float], point: np.ndarray) -> bool:
    return bool(box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3])


def _overlaps(box: tuple[float, float, float, float], image: np.ndarray) -> bool:
    """Whether the middle of a box lies in the image, and not in the margin that was put around it."""
    return 0 <= (box[0] + box[2]) / 2 < image.shape[1] and 0 <= (box[1] + box[3]) / 2 < image.shape[0]

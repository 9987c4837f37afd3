"""Everything that a detector and the file itself say of one picture, as plain data: what `ntf app` shows."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from foreign.pictures import decode
from foreign.provenance import provenance_of
from foreign.text import visible
from ntf_model.calibration import Verdict
from ntf_model.detector import Detector
from ntf_model.errors import InputError

SHOWN = 320  # px, the longer side of a picture on the page


@dataclass(frozen=True)
class Examined:
    """A picture's verdict. `probability` and `threshold` are of the detector's score; `band` is (low, high), None without a calibration;
    `calibrated` and `distance` are None where the detector has none. `picture` is a PNG of it, `map` a PNG of the places that moved the
    score towards fake (None: `map_note` says why). `metadata` are sentences about the file."""

    name: str
    width: int
    height: int
    verdict: Verdict
    probability: float
    threshold: float
    band: tuple[float, float] | None
    calibrated: float | None
    distance: float | None
    picture: bytes
    map: bytes | None
    map_note: str
    metadata: list[str]


def examine(detector: Detector, data: bytes, name: str) -> Examined:
    """What is to be said of the encoded picture `data`. Raises InputError if it is no picture that can be read."""
    image = decode(data, visible(name))
    (found,) = detector([image])
    band = detector.calibration.band(detector.error, detector.fpr) if detector.calibration else None
    heat, note = _map(detector, image)
    return Examined(
        name=visible(name),
        width=image.shape[1],
        height=image.shape[0],
        verdict=found.verdict,
        probability=found.probability,
        threshold=detector.threshold,
        band=None if band is None else (band.low, band.high),
        calibrated=None if np.isnan(found.calibrated) else found.calibrated,
        distance=None if np.isnan(found.distance) else found.distance,
        picture=_png(image),
        map=heat,
        map_note=note,
        metadata=provenance_of(data).sentences(),
    )


def _map(detector: Detector, image: np.ndarray) -> tuple[bytes | None, str]:
    """Grad-CAM++ over the middle of the picture as PNG, and what it is or why there is none."""
    from ntf_model.ntf.explain import explain, overlay
    from ntf_model.ntf.ntf import NTFDetector

    if not isinstance(detector, NTFDetector):
        return None, f"{detector.title} has no map: only NTF has one"
    try:
        crops, heats = explain(detector, [image])
    except InputError as error:
        return None, error.message
    side = crops.shape[1]
    return _png(overlay(crops[0], heats[0])), f"Grad-CAM++ over the middle {side} x {side} pixels: bright places speak for fake"


def _png(image: np.ndarray) -> bytes:
    """A PNG whose longer side has `SHOWN` pixels; small pictures are enlarged without smoothing."""
    picture: Any = Image.fromarray(image)
    scale = SHOWN / max(picture.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    stream = io.BytesIO()
    picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), how).save(stream, "PNG")
    return stream.getvalue()

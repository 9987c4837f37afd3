"""A detector as one ONNX file that takes a picture as it is: crops, normalisation, the network and the calibration are inside.

Input `image`: uint8 RGB `[H, W, 3]` of any size. Outputs, float32 `[1]` each: `probability` (P(fake), what thresholds are about),
`calibrated`, and `distance` (to the natural trace; only of NTF). The threshold and the band are in the file's metadata.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ntf_model.detector import Detector
from ntf_model.ensemble import TINY, Ensemble
from ntf_model.errors import InputError
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.recipes.network import NetworkDetector
from ntf_model.recipes.on_encoder import Crops

OPSET = 17
TOLERANCE = 1e-4
SIZES = ((1, 1), (7, 9), (64, 30), (31, 100), (224, 224), (300, 257))  # height and width of the pictures that are compared


class Middle(nn.Module):
    """`count` crops of a picture, the middle and then the corners, as `ntf_model.data.images.corner_crops` takes them: uint8 `[H, W, 3]` to
    float32 `[count, 3, size, size]`, normalised. A picture that is too small is reflected, or with `black` surrounded by black, as by
    `ntf_model.recipes.transforms.center_crop`."""

    def __init__(self, size: int | None, count: int, stats: Any, *, bgr: bool = False, black: bool = False):
        super().__init__()
        self.size, self.count, self.bgr, self.black = size, count, bgr, black
        mean, std = stats or ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        crops = image[None] if self.size is None else torch.stack([self._crop(image, place) for place in range(self.count)])
        pixels = crops.permute(0, 3, 1, 2).float()
        if self.bgr:
            return pixels.flip(1)
        return (pixels / 255 - self.mean) / self.std

    def _crop(self, image: torch.Tensor, place: int) -> torch.Tensor:
        """The crop number `place`: the middle, top left, top right, bottom left, bottom right."""
        height, width = torch._shape_as_tensor(image)[:2].to(image.device)
        rows = self._places(height, 0 if place == 0 else 1 if place in (1, 2) else 2)
        columns = self._places(width, 0 if place == 0 else 1 if place in (1, 3) else 2)
        picked = image.index_select(0, _reflected(rows, height)).index_select(1, _reflected(columns, width))
        if not self.black:
            return picked
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
        return picked * inside[..., None].to(picked.dtype)

    def _places(self, side: torch.Tensor, where: int) -> torch.Tensor:
        """Pixels along one side, some of them outside of a picture that is too small; `where` is 0 middle, 1 start, 2 end."""
        size = int(self.size or 0)
        before = torch.div((size - side).clamp(min=0), 2, rounding_mode="floor")
        over = (side - size).clamp(min=0)
        half = torch.round(over / 2).to(torch.int64) if self.black else torch.div(over, 2, rounding_mode="floor")
        start = half if where == 0 else over * (where - 1)
        return torch.arange(size, device=side.device) + start - before


class Inside(nn.Module):
    """A detector from a picture to (probability, calibrated, distance), or the first two where it has no trace."""

    def __init__(self, core: nn.Module, temperature: float | None):
        super().__init__()
        self.core, self.temperature = core, temperature

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        probability, *rest = self.core(image)
        clipped = probability.double().clamp(TINY, 1 - TINY)
        logit = torch.log(clipped) - torch.log(1 - clipped)
        calibrated = probability if self.temperature is None else torch.sigmoid(logit / self.temperature)
        return probability.float(), calibrated.float(), *(value.float() for value in rest)


class NTFCore(nn.Module):
    """NTF on the crops of one picture, as `ntf_model.ntf.inference.predict` has it."""

    def __init__(self, detector: NTFDetector):
        super().__init__()
        encoder = detector.network.encoder
        self.crops = Middle(encoder.crop, detector.config.test_crops, (encoder.mean, encoder.std))
        self.network = detector.network
        trace = None if detector.trace is None else torch.from_numpy(np.atleast_2d(detector.trace)).float()
        self.register_buffer("trace", trace)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z, logit = self.network.heads(self.network.embed(self.crops(image)))
        probability = logit.mean(0, keepdim=True).double().sigmoid()
        if self.trace is None:
            return (probability,)
        features = F.normalize(F.normalize(self.network.standardise(z), dim=1).mean(0, keepdim=True), dim=1)
        return probability, (1 - (features @ self.trace.T).amax(1).clamp(-1, 1)) / 2


class NetworkCore(nn.Module):
    """A network detector on one picture."""

    def __init__(self, detector: NetworkDetector):
        super().__init__()
        prepare = detector.preprocess
        if prepare.shorter is not None or prepare.square is not None:
            raise InputError(
                f"{detector.name} resizes pictures by a library whose pixels ONNX does not give again",
                "Export NTF, a probe, or another detector that crops",
            )
        count = prepare.count if isinstance(prepare, Crops) else 1
        self.is_crops = isinstance(prepare, Crops)
        self.crops = Middle(prepare.crop, count, prepare.stats, bgr=prepare.bgr, black=not self.is_crops)
        self.network, self.probability = detector.network, detector.probability

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        crops = self.crops(image)
        return (self.probability(self.network(crops[None] if self.is_crops else crops)).reshape(1),)


class EnsembleCore(nn.Module):
    """The sigmoid of the members' mean logit."""

    def __init__(self, detector: Ensemble):
        super().__init__()
        self.members = nn.ModuleList(core_of(member) for member in detector.members)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = torch.stack([member(image)[0].double().clamp(TINY, 1 - TINY) for member in self.members])
        return (torch.sigmoid((torch.log(scores) - torch.log(1 - scores)).mean(0)),)


def core_of(detector: Detector) -> nn.Module:
    """The detector from a picture to its outputs, as a module. Raises InputError for one that cannot be written so."""
    if isinstance(detector, NTFDetector):
        return NTFCore(detector)
    if isinstance(detector, Ensemble):
        return EnsembleCore(detector)
    if isinstance(detector, NetworkDetector):
        return NetworkCore(detector)
    raise InputError(f"{detector.name} is no network that can be written as ONNX", "Export NTF or a probe")


def to_onnx(detector: Detector) -> bytes:
    """The ONNX file. Raises InputError if the detector's network or preprocessing cannot be written so."""
    import onnx

    module = Inside(core_of(detector), detector.calibration.temperature if detector.calibration else None).cpu().eval()
    names = ["probability", "calibrated"] + (["distance"] if getattr(detector, "trace", None) is not None else [])
    stream = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every constant shape, and that it is deprecated
        try:
            torch.onnx.export(
                module,
                (torch.zeros(48, 40, 3, dtype=torch.uint8),),
                stream,
                dynamo=False,  # the newer exporter needs onnxscript
                input_names=["image"],
                output_names=names,
                dynamic_axes={"image": {0: "height", 1: "width"}},
                opset_version=OPSET,
            )
        except (RuntimeError, ValueError, TypeError) as error:
            why = str(error).strip().split("\n", 1)[0]
            raise InputError(
                f"the network of {detector.title} cannot be written as ONNX ({why})", "Export a detector on another encoder"
            ) from None
    model = onnx.load_from_string(stream.getvalue())
    for key, value in _facts(detector).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def difference(data: bytes, detector: Detector, images: Sequence[np.ndarray] | None = None) -> float:
    """The largest difference between what onnxruntime makes of the file and the detector itself, over all outputs and pictures: `images`
    (`uint8` `[H, W, 3]`), or noise and flat pictures of several sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    largest = 0.0
    for image in images if images is not None else sample_pictures():
        (own,) = detector([image])
        expected = {"probability": own.probability, "calibrated": own.calibrated, "distance": own.distance}
        if detector.calibration is None:
            expected["calibrated"] = own.probability
        for name, value in zip(names, session.run(None, {"image": np.ascontiguousarray(image)}), strict=True):
            gap = abs(float(value[0]) - expected[name])
            largest = max(largest, gap if np.isfinite(gap) else float("inf"))
    return largest


def sample_pictures() -> list[np.ndarray]:
    """Noise of every size in `SIZES`, a flat picture and a gradient."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    ramp = np.linspace(0, 255, 90, dtype=np.uint8)
    return [*pictures, np.full((50, 60, 3), 128, np.uint8), np.broadcast_to(ramp[None, :, None], (70, 90, 3)).copy()]


def _facts(detector: Detector) -> dict[str, str]:
    """Metadata of the file."""
    facts: dict[str, Any] = {"detector": detector.name, "title": detector.title, "threshold": detector.threshold}
    if detector.calibration:
        band = detector.calibration.band(detector.error, detector.fpr)
        facts |= {"temperature": detector.calibration.temperature, "unsure_from": band.low, "unsure_to": band.high}
        facts |= {"error": detector.error}
    return {f"ntf.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def _reflected(places: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Places on an endless line, folded back into `[0, side)` with the edge pixel repeated, as `numpy.pad` does with "symmetric"."""
    folded = torch.remainder(places, 2 * side)
    return torch.minimum(folded, 2 * side - 1 - folded)

"""Faces inside a chain: whole pictures in; swapped pictures out, with what was measured, or the reason why there is none.

A swapper works on aligned faces of its own size. So a face is detected in the source and in the target, both are aligned to the swapper's
`crop`, the swap is made, and the result is put back into the target at the target's own size. Where the swapper's template is "aligned",
pictures are faces already: they are brought to size, swapped, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from generators.base import Crop, Generator, SwapRequest
from generators.errors import InputError
from generators.faces.align import ALIGNED, align, unwarp
from generators.faces.detect import Detector, Face, load_detector
from generators.faces.identity import ArcFaceIdentity, IdentityNetwork, OnnxIdentity, similarity
from generators.faces.masks import crop_mask, face_mask
from generators.faces.parsing import FaceParser
from generators.faces.pasteback import blend_crop, paste_back
from pipelines.catalogue.catalogue import Catalogue
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.measures import face_distances
from pipelines.make.output import Output
from pipelines.make.regions.places import face_as_data, share_covered
from pipelines.manifest.schema import CASCADE, Faces

CHUNK = 32  # pairs whose pictures are held in memory at once; a multiple of the swappers' batch sizes
BYSTANDER = 0.25  # a face smaller than this part of the largest one's area does not make a picture one of several faces

Open = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A swap to be made: the seed, and what opens the pictures (`uint8` RGB `[H, W, 3]`) of the source and of the target."""

    seed: int
    source: Open
    target: Open


@dataclass(frozen=True)
class _Aligned:
    """A picture and its crop. `face` and `matrix` are None where the whole picture is the face."""

    picture: np.ndarray
    crop: np.ndarray
    matrix: np.ndarray | None = None
    face: Face | None = None

    def as_seen_by(self, network: IdentityNetwork, picture: np.ndarray | None = None) -> np.ndarray:
        """The face as an identity network wants it, here or at the same place of another `picture`."""
        picture = self.picture if picture is None else picture
        if self.face is None:
            return fit(picture, network.crop.size)
        return align(picture, self.face.landmarks, network.crop.template, network.crop.size)[0]


@dataclass(frozen=True)
class _AlignedPair:
    seed: int
    source: _Aligned
    target: _Aligned


class _OwnIdentity:
    """A swapper's own identity network, on the swapper's own crops."""

    def __init__(self, generator: Generator, crop: Crop):
        self.crop = crop
        self._generator = generator

    def embed(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        return self._generator.embed_faces(images)


class FaceSwaps:
    """The face networks that a manifest names, loaded once, and swaps made with them."""

    def __init__(self, settings: Faces, catalogue: Catalogue, device: str | torch.device = "cpu"):
        self._settings = settings
        self._detector = load_detector(None if settings.detector == CASCADE else catalogue.path(settings.detector), device)
        self._detector.padding = settings.padding
        self._identity = _load_identity(settings.identity, catalogue, device)
        self._parser = FaceParser.load(catalogue.checkpoint(settings.parsing), device) if settings.parsing else None

    @property
    def parser(self) -> FaceParser:
        """InputError if the manifest names none."""
        if self._parser is None:
            raise InputError("a mask of a face needs a face parser", "Name one as `parsing` under `faces`")
        return self._parser

    @property
    def detector(self) -> Detector:
        """What finds the faces, for steps that restore them."""
        return self._detector

    def swap(self, generator: Generator, pairs: Sequence[Pair], parameters: Mapping[str, Any]) -> Iterator[Output]:
        """One swap for each pair, in order, as large as its target. Its measures are what the generator measured, and:

        - `target_face`, `source_face`: `box` (left, top, right, bottom) and five `landmarks` (x, y) in pixels, `score`, and
          `estimated` where the landmarks were guessed from the box. The target's are in pixels of the picture, the
          source's in pixels of its own.
        - `crop`: the 2x3 matrix from the picture to the swapper's crop, and `crop_size`. `face_share` is the part of the crop that
          face parsing lets through. The mask is kept beside the picture.
        - `mask_share`: the part of the target picture that the crop covers, times `face_share`.
        - `similarity`: cosines of identities: `before` (source and target), `source` and `target` (the swapped face and each of them).
        - `pose_distance`, `expression_distance`: see `measures.face_distances`; where the detector sees landmarks.
        """
        crop = generator.crop or Crop(ALIGNED, generator.resolution)
        for start in range(0, len(pairs), CHUNK):
            aligned = [self._aligned_pair(pair, crop) for pair in pairs[start : start + CHUNK]]
            ready = [pair for pair in aligned if isinstance(pair, _AlignedPair)]
            swapped = iter(self._swap_aligned(generator, ready, parameters, crop) if ready else ())
            for pair in aligned:
                yield next(swapped) if isinstance(pair, _AlignedPair) else Output(None, pair)

    def _aligned_pair(self, pair: Pair, crop: Crop) -> _AlignedPair | str:
        """Both pictures aligned, or the reason against one of them. The target first: without it no source would help."""
        target = self._align(pair.target(), "target", crop)
        if isinstance(target, str):
            return target
        source = self._align(pair.source(), "source", crop)
        return source if isinstance(source, str) else _AlignedPair(pair.seed, source, target)

    def _align(self, picture: np.ndarray, role: str, crop: Crop) -> _Aligned | str:
        """The picture's only face, or the reason against it."""
        if crop.template == ALIGNED:
            whole = fit(picture, crop.size)
            return _Aligned(whole, whole)
        faces = sorted(self._detector.detect(picture), key=lambda face: -face.area)
        if not faces:
            return rejections.NO_FACE[role]
        if len(faces) > 1 and faces[1].area >= BYSTANDER * faces[0].area:
            return rejections.SEVERAL_FACES[role]
        return _Aligned(picture, *align(picture, faces[0].landmarks, crop.template, crop.size), faces[0])

    def _swap_aligned(self, generator: Generator, pairs: Sequence[_AlignedPair], parameters: Mapping[str, Any], crop: Crop) -> list[Output]:
        """Swaps all pairs in one request, then judges, puts back and measures what came of it."""
        sources, targets = np.stack([pair.source.crop for pair in pairs]), np.stack([pair.target.crop for pair in pairs])
        result = generator.run(SwapRequest([pair.seed for pair in pairs], sources, targets), **parameters)
        outputs = []
        for place, (pair, swapped) in enumerate(zip(pairs, result.images, strict=True)):
            # Judged before it is put back: in a large picture, a small face that is blank or unchanged would not show.
            reason = result.rejected.get(place) or rejections.reason_against(swapped, pair.target.crop)
            outputs.append(Output(None if reason else swapped, reason, {name: values[place] for name, values in result.columns.items()}))
        good = [place for place, output in enumerate(outputs) if output.picture is not None]
        finished = self._finish([pairs[place] for place in good], [outputs[place] for place in good], generator, crop)
        by_place = dict(zip(good, finished, strict=True))
        return [by_place.get(place, output) for place, output in enumerate(outputs)]

    def _finish(self, pairs: Sequence[_AlignedPair], crops: Sequence[Output], generator: Generator, crop: Crop) -> list[Output]:
        """Swapped crops put back into their targets, measured, and rejected where the identity did not move."""
        if not pairs:
            return []
        masks = self._masks(pairs, crop)
        pictures = [self._put_back(pair, output, mask, crop) for pair, output, mask in zip(pairs, crops, masks, strict=True)]
        similarities = self._similarities(pairs, pictures, generator, crop)
        return [self._judged(*item) for item in zip(pairs, pictures, similarities, strict=True)]

    def _masks(self, pairs: Sequence[_AlignedPair], crop: Crop) -> Sequence[np.ndarray | None]:
        """Soft masks of the targets' faces, or Nones where the manifest names no parser."""
        if self._parser is None:
            return [None] * len(pairs)
        return list(face_mask(self._parser.labels(np.stack([pair.target.crop for pair in pairs])), crop.size))

    def _put_back(self, pair: _AlignedPair, swapped: Output, mask: np.ndarray | None, crop: Crop) -> Output:
        """The swapped crop inside the target picture, with the places of both faces."""
        target, pixels, measures = pair.target, swapped.picture, dict(swapped.measures)
        assert pixels is not None
        if mask is not None:
            pixels = np.rint(blend_crop(pixels, target.crop, mask)).astype(np.uint8)
            measures["face_share"] = round(float(mask.mean()), 4)
        if target.matrix is None:
            everywhere = np.ones(pixels.shape[:2], bool)
            return Output(pixels, None, measures, everywhere if mask is None else mask > 0)
        scale = np.sqrt(abs(np.linalg.det(target.matrix[:, :2])))
        edge = self._settings.soft_edge * crop.size / scale  # in pixels of the picture
        picture = paste_back(target.picture, pixels, target.matrix, erode=max(1, round(edge)), blur=2 * round(edge / 2) + 1)
        covered = share_covered(target.matrix, crop.size, target.picture.shape)
        places = {
            "target_face": face_as_data(target.face),
            "source_face": face_as_data(pair.source.face),
            "crop": target.matrix.tolist(),
            "crop_size": crop.size,
            "mask_share": round(covered * measures.get("face_share", 1.0), 4),
        }
        return Output(picture, None, measures | places, _changed(target, mask, crop.size, max(1, round(edge)), 2 * round(edge / 2) + 1))

    def _similarities(
        self, pairs: Sequence[_AlignedPair], swapped: Sequence[Output], generator: Generator, crop: Crop
    ) -> list[dict[str, Any] | None]:
        """The cosines of each swap, not rounded; Nones where nobody asks for them."""
        network = self._identity or (_OwnIdentity(generator, crop) if self._settings.min_similarity is not None else None)
        if network is None:
            return [None] * len(pairs)
        faces = []
        for pair, output in zip(pairs, swapped, strict=True):
            faces += [pair.source.as_seen_by(network), pair.target.as_seen_by(network)]
            faces.append(pair.target.as_seen_by(network, output.picture))
        vectors = network.embed(np.stack(faces)).reshape(len(pairs), 3, -1)
        return [
            {"before": similarity(source, target), "source": similarity(face, source), "target": similarity(face, target)}
            for source, target, face in vectors
        ]

    def _judged(self, pair: _AlignedPair, swapped: Output, cosines: dict[str, Any] | None) -> Output:
        """The swap with its similarity and its distances, or rejected because the identity did not move far enough."""
        measures = dict(swapped.measures)
        if cosines is not None:
            measures["similarity"] = {name: round(float(value), 4) for name, value in cosines.items()}
            bound = self._settings.min_similarity
            if bound is not None and not cosines["source"] >= bound:  # not-a-number moves nobody
                return Output(None, rejections.NOT_MOVED, measures)
        assert swapped.picture is not None
        return Output(swapped.picture, None, measures | self._distances(swapped.picture, pair.target.face), swapped.mask)

    def _distances(self, picture: np.ndarray, target: Face | None) -> dict[str, float]:
        """Pose and expression of the swapped face against the target's, where the detector sees landmarks."""
        if target is None or target.estimated:
            return {}
        faces = self._detector.detect(picture)
        return face_distances(max(faces, key=lambda face: face.area).landmarks, target.landmarks) if faces else {}


def _changed(target: _Aligned, mask: np.ndarray | None, size: int, erode: int, blur: int) -> np.ndarray:
    """Bool `[H, W]` of the picture: where a crop was pasted back, and the soft `mask` of the crop, if there is one, let it through."""
    assert target.matrix is not None
    # Pasting cuts values down to whole ones, so that the least weight can change a pixel.
    weight = crop_mask(target.matrix, size, target.picture.shape, erode=erode, blur=blur) > 0
    if mask is None:
        return weight
    return weight & (unwarp(mask.astype(np.float32), target.matrix, target.picture.shape) > 0)


def _load_identity(name: str | None, catalogue: Catalogue, device: str | torch.device) -> IdentityNetwork | None:
    if name is None:
        return None
    checkpoint = catalogue.checkpoint(name)
    onnx = checkpoint.path.is_dir() or checkpoint.path.suffix == ".onnx"
    return OnnxIdentity(checkpoint.path, device) if onnx else ArcFaceIdentity(checkpoint, device)

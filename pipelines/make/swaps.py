"""Faces inside a chain: whole pictures in; swapped pictures out, with what was found and measured, or the reason why there is none.

A swapper works on aligned faces of its own size. So a face is found in the source and in the target, both are aligned to the swapper's
`crop`, the swap is made, and the result is put back into the target at the target's own size. Where the swapper's template is "aligned",
pictures are faces already: they are brought to size, swapped, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from generators.base import Crop, Generator, SwapRequest
from generators.faces.align import ALIGNED, align, invert, transform_points
from generators.faces.detect import Face, load_detector
from generators.faces.identity import ArcFaceIdentity, IdentityNetwork, OnnxIdentity, similarity
from generators.faces.masks import face_mask
from generators.faces.parsing import FaceParser
from generators.faces.pasteback import blend_crop, paste_back
from pipelines.catalogue.catalogue import Catalogue
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.measures import face_distances
from pipelines.manifest.schema import CASCADE, Faces

CHUNK = 32  # pairs whose pictures are held in memory at once; a multiple of the swappers' batch sizes
BYSTANDER = 0.25  # a face smaller than this part of the largest one's area does not make a picture one of several faces

Open = Callable[[], np.ndarray]


@dataclass
class Swapped:
    """One swap: `picture` `uint8` `[H, W, 3]`, or None and the `reason`; and what is kept of it in the row's `measures`.

    - `target_face`, `source_face`: `box` (left, top, right, bottom) and five `landmarks` (x, y) in pixels, `score`, and `estimated` where
      the landmarks were guessed from the box. Of the target in pixels of the stored picture, of the source in pixels of its own.
    - `crop`: the 2x3 matrix from the stored picture to the swapper's crop, and `crop_size`. With `face_share`, the part of the crop that
      face parsing lets through, this stands for the mask: it can be made again from them, and is not kept as pixels.
    - `mask_share`: the part of the target picture that the crop covers, times `face_share`.
    - `similarity`: cosines of identities: `before` (source and target), `source` and `target` (the swapped face and each of them).
    - `pose_distance`, `expression_distance`: see `quality.face_distances`; where the detector sees landmarks.
    """

    picture: np.ndarray | None
    reason: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)


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


@dataclass
class _Pair:
    """A source and a target on their way to a swap."""

    source: _Aligned
    target: _Aligned
    swap: Swapped


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

    def swap(
        self,
        generator: Generator,
        seeds: Sequence[int],
        sources: Sequence[Open],
        targets: Sequence[Open],
        parameters: Mapping[str, Any],
        size: int | None = None,
        prepare: Callable[[int, np.ndarray], np.ndarray] = lambda row, picture: picture,
    ) -> Iterator[Swapped]:
        """One swap for each seed, in order. With `size`, pictures are brought to that square, as all final images are.

        `prepare(row, picture)` is what is done to a final picture before that.
        """
        crop = generator.crop or Crop(ALIGNED, generator.resolution)
        for start in range(0, len(seeds), CHUNK):
            part = range(start, min(start + CHUNK, len(seeds)))
            swaps = [Swapped(None) for _ in part]
            pairs = {}
            for row, swap in zip(part, swaps, strict=True):
                pair = self._pair(sources[row], targets[row], swap, crop)
                if pair is not None:
                    pairs[row] = pair
            if pairs:
                self._run(generator, [seeds[row] for row in pairs], list(pairs.values()), parameters, crop)
            for row, swap in zip(part, swaps, strict=True):
                yield _stored_at(swap, size, partial(prepare, row))

    def _pair(self, source: Open, target: Open, swap: Swapped, crop: Crop) -> _Pair | None:
        """Both pictures aligned, or None with the reason set. The target first: without it no source would help."""
        found = {}
        for role, picture in (("target", target), ("source", source)):
            one = self._align(picture(), role, crop)
            if isinstance(one, str):
                swap.reason = one
                return None
            found[role] = one
        return _Pair(found["source"], found["target"], swap)

    def _align(self, picture: np.ndarray, role: str, crop: Crop) -> _Aligned | str:
        """The picture's one face, or the reason against it."""
        if crop.template == ALIGNED:
            whole = fit(picture, crop.size)
            return _Aligned(whole, whole)
        faces = sorted(self._detector.detect(picture), key=lambda face: -face.area)
        if not faces:
            return rejections.NO_FACE[role]
        if len(faces) > 1 and faces[1].area >= BYSTANDER * faces[0].area:
            return rejections.SEVERAL_FACES[role]
        return _Aligned(picture, *align(picture, faces[0].landmarks, crop.template, crop.size), faces[0])

    def _run(self, generator: Generator, seeds: list[int], pairs: list[_Pair], parameters: Mapping[str, Any], crop: Crop) -> None:
        """Swaps all pairs in one request, then judges, puts back and measures what came of it."""
        sources, targets = (np.stack([getattr(pair, role).crop for pair in pairs]) for role in ("source", "target"))
        result = generator.run(SwapRequest(seeds, sources, targets), **parameters)
        good: list[tuple[_Pair, np.ndarray]] = []
        for place, (pair, made) in enumerate(zip(pairs, result.images, strict=True)):
            # Judged before it is put back: in a large picture, a small face that is blank or unchanged would not show.
            pair.swap.reason = result.rejected.get(place) or rejections.reason_against(made, pair.target.crop)
            pair.swap.measures = {name: values[place] for name, values in result.columns.items()}
            if pair.swap.reason is None:
                good.append((pair, made))
        masks = self._masks([pair for pair, _ in good], crop)
        for (pair, made), mask in zip(good, masks, strict=True):
            self._put_back(pair, made, mask, crop)
        self._judge_identity([pair for pair, _ in good], generator, crop)
        for pair, _ in good:
            self._compare_landmarks(pair)

    def _masks(self, pairs: list[_Pair], crop: Crop) -> Sequence[np.ndarray | None]:
        """Soft masks of the targets' faces, or Nones where the manifest names no parser."""
        if self._parser is None or not pairs:
            return [None] * len(pairs)
        return list(face_mask(self._parser.labels(np.stack([pair.target.crop for pair in pairs])), crop.size))

    def _put_back(self, pair: _Pair, made: np.ndarray, mask: np.ndarray | None, crop: Crop) -> None:
        swap, target = pair.swap, pair.target
        if mask is not None:
            made = np.rint(blend_crop(made, target.crop, mask)).astype(np.uint8)
            swap.measures["face_share"] = round(float(mask.mean()), 4)
        if target.matrix is None:
            swap.picture = made
            return
        scale = np.sqrt(abs(np.linalg.det(target.matrix[:, :2])))
        edge = self._settings.soft_edge * crop.size / scale  # in pixels of the picture
        swap.picture = paste_back(target.picture, made, target.matrix, erode=max(1, round(edge)), blur=2 * round(edge / 2) + 1)
        covered = _covered(target.matrix, crop.size, target.picture.shape)
        swap.measures |= {
            "target_face": _plain(target.face),
            "source_face": _plain(pair.source.face),
            "crop": target.matrix.tolist(),
            "crop_size": crop.size,
            "mask_share": round(covered * swap.measures.get("face_share", 1.0), 4),
        }

    def _judge_identity(self, pairs: list[_Pair], generator: Generator, crop: Crop) -> None:
        bound = self._settings.min_similarity
        network = self._identity or (_OwnIdentity(generator, crop) if bound is not None else None)
        if network is None or not pairs:
            return
        faces = []
        for pair in pairs:
            faces += [pair.source.as_seen_by(network), pair.target.as_seen_by(network)]
            faces.append(pair.target.as_seen_by(network, pair.swap.picture))
        vectors = network.embed(np.stack(faces)).reshape(len(pairs), 3, -1)
        for pair, (source, target, swapped) in zip(pairs, vectors, strict=True):
            found = {"before": similarity(source, target), "source": similarity(swapped, source), "target": similarity(swapped, target)}
            pair.swap.measures["similarity"] = {name: round(float(value), 4) for name, value in found.items()}
            if bound is not None and not found["source"] >= bound:  # not-a-number moves nobody
                pair.swap.reason, pair.swap.picture = rejections.NOT_MOVED, None

    def _compare_landmarks(self, pair: _Pair) -> None:
        """Pose and expression of the swapped face against the target's, where the detector sees landmarks."""
        if pair.swap.picture is None or pair.target.face is None or pair.target.face.estimated:
            return
        found = self._detector.detect(pair.swap.picture)
        if found:
            pair.swap.measures |= face_distances(max(found, key=lambda face: face.area).landmarks, pair.target.face.landmarks)


def _load_identity(name: str | None, catalogue: Catalogue, device: str | torch.device) -> IdentityNetwork | None:
    if name is None:
        return None
    checkpoint = catalogue.checkpoint(name)
    onnx = checkpoint.path.is_dir() or checkpoint.path.suffix == ".onnx"
    return OnnxIdentity(checkpoint.path, device) if onnx else ArcFaceIdentity(checkpoint, device)


def _plain(face: Face | None) -> dict[str, Any] | None:
    if face is None:
        return None
    return {"box": list(face.box), "landmarks": face.landmarks.tolist(), "score": round(face.score, 4), "estimated": face.estimated}


def _covered(matrix: np.ndarray, size: int, shape: tuple[int, ...]) -> float:
    """The part of a picture that the square of a crop covers."""
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float64) - 0.5  # pixel centres lie at whole numbers
    frame = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float32) - 0.5
    area, _ = cv2.intersectConvexConvex(transform_points(corners, invert(matrix)).astype(np.float32), frame.astype(np.float32))
    return float(area) / (shape[0] * shape[1])


def _stored_at(swap: Swapped, size: int | None, prepare: Callable[[np.ndarray], np.ndarray]) -> Swapped:
    """The swap with its picture at the stored size, and all places in pixels of that picture."""
    height, width = (0, 0) if swap.picture is None else swap.picture.shape[:2]
    side = min(height, width)
    scale = size / side if size and side else 1.0
    left, top = ((width - side) // 2, (height - side) // 2) if size else (0, 0)
    if swap.picture is not None and size:
        swap.picture = fit(prepare(swap.picture), size)
    if "crop" in swap.measures:
        # Pixel centres lie at whole numbers: x becomes (x - left + 0.5) * scale - 0.5.
        shift = np.array([(0.5 - left) * scale - 0.5, (0.5 - top) * scale - 0.5])
        face = swap.measures["target_face"]
        corners = np.array(face["box"]).reshape(2, 2) * scale + shift
        landmarks = np.array(face["landmarks"]) * scale + shift
        face |= {"box": corners.ravel().round(2).tolist(), "landmarks": landmarks.round(2).tolist()}
        matrix = np.array(swap.measures["crop"])
        linear = matrix[:, :2] / scale
        swap.measures["crop"] = np.column_stack([linear, matrix[:, 2] - linear @ shift]).round(5).tolist()
        source = swap.measures["source_face"]
        source |= {name: np.array(source[name]).round(2).tolist() for name in ("box", "landmarks")}
    return swap

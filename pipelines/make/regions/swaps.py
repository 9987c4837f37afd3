"""Faces inside a chain: whole pictures in; swapped pictures out, with what was measured, or the reason why there is none.

A swapper works on aligned faces of its own size. So a face is detected in the source and in the target, both are aligned to the swapper's
`crop`, the swap is made, and the result is put back into the target at the target's own size. Where the swapper's template is "aligned",
pictures are faces already: they are brought to size, swapped, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from generators.base import Crop, Generator, SwapRequest
from generators.errors import InputError
from generators.faces.align import ALIGNED, align, invert, transform_points
from generators.faces.detect import Detector, Face, load_detector
from generators.faces.identity import ArcFaceIdentity, IdentityNetwork, OnnxIdentity, similarity
from generators.faces.masks import face_mask
from generators.faces.parsing import FaceParser
from generators.faces.pasteback import blend_crop, paste_window
from generators.faces.unwarping import unwarp_window
from pipelines.catalogue.catalogue import Catalogue
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.measures import face_distances
from pipelines.make.output import Output
from pipelines.make.regions.known_faces import KnownFaces, KnownIdentities, SeenFace
from pipelines.make.regions.places import face_as_data, share_covered
from pipelines.make.threads import Begun, Threads
from pipelines.manifest.schema import CASCADE, Faces

CHUNK = 32  # pairs whose pictures are held in memory at once; a multiple of the swappers' batch sizes
HELD_BYTES = 512 << 20  # of target pictures that wait for the network or for what follows it; larger ones are made chunk by chunk
BYSTANDER = 0.25  # a face smaller than this part of the largest one's area does not make a picture one of several faces

Open = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A swap to be made: the seed, and what opens the pictures (`uint8` RGB `[H, W, 3]`) of the source and of the target. A picture that
    other swaps use too has its sha256 here, so that it is analysed once."""

    seed: int
    source: Open
    target: Open
    source_sha256: str | None = None
    target_sha256: str | None = None


@dataclass(frozen=True)
class _Aligned:
    """A picture and its crop. `face` and `matrix` are None where the whole picture is the face. A picture that other swaps use too has
    its sha256."""

    picture: np.ndarray
    crop: np.ndarray
    matrix: np.ndarray | None = None
    face: Face | None = None
    sha256: str | None = None

    @property
    def name(self) -> tuple[str, int] | None:
        """Of the face as any identity network sees it: of a picture that is the face, at the swapper's size."""
        return None if self.sha256 is None else (self.sha256, len(self.crop) if self.face is None else 0)

    def as_seen_by(self, network: IdentityNetwork, picture: np.ndarray | None = None) -> np.ndarray:
        """The face as an identity network wants it, here or at the same place of another `picture`."""
        picture = self.picture if picture is None else picture
        if self.face is None:
            return fit(picture, network.crop.size)
        return align(picture, self.face.landmarks, network.crop.template, network.crop.size)[0]


@dataclass(frozen=True)
class _AlignedPair:
    """`seen` are source and target for the identity network, if there is one. The source's picture is not kept."""

    seed: int
    source_crop: np.ndarray
    source_face: Face | None
    target: _Aligned
    seen: tuple[SeenFace, ...] = ()


@dataclass(frozen=True)
class _Swapped:
    """A pair with its swapped crop, and the labels of the target's face if there is a parser."""

    pair: _AlignedPair
    output: Output
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class _PutBack:
    """A swapped picture. `crop` is the crop as it was put back, and `seen` the swapped face for the identity network."""

    pair: _AlignedPair
    output: Output
    crop: np.ndarray
    seen: tuple[SeenFace, ...] = ()


class _OwnIdentity:
    """A swapper's own identity network, on the swapper's own crops."""

    def __init__(self, generator: Generator, crop: Crop):
        self.crop = crop
        self._generator = generator

    def embed(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        return self._generator.embed_faces(images)


class FaceSwaps:
    """The face networks that a manifest names, loaded once, and swaps made with them."""

    def __init__(self, settings: Faces, catalogue: Catalogue, device: str | torch.device = "cpu", threads: Threads | None = None):
        """Without `threads` everything is done in the thread that asks."""
        self._settings = settings
        self._threads = threads or Threads(0)
        self._known = KnownFaces(lambda: self._detector)
        self._identities: WeakKeyDictionary[Any, KnownIdentities] = WeakKeyDictionary()  # of each network
        self._largest = 0  # bytes of the largest target so far
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
        network = self._identity or (_OwnIdentity(generator, crop) if self._settings.min_similarity is not None else None)
        known = self._identities.setdefault(self._identity or generator, KnownIdentities())
        aligned = self._threads.in_order(partial(self._aligned_pair, crop=crop, network=network, known=known), pairs, self._ahead)
        chunks = iter(lambda: list(islice(aligned, CHUNK)), [])
        swapped = (self._swap_aligned(generator, chunk, parameters, crop) for chunk in chunks)
        put_back = self._threads.behind((self._begin_putting_back(chunk, crop, network) for chunk in swapped), self._lag)
        judged = self._threads.behind((self._begin_judging(chunk, network, known) for chunk in put_back), self._lag)
        for outputs in judged:
            yield from outputs

    def _ahead(self) -> int:
        """How many aligned pairs may wait for the network: as many as their targets' pictures leave memory for."""
        return min(CHUNK, HELD_BYTES // max(1, self._largest))

    def _lag(self) -> int:
        """Whether the network goes on (1) or waits (0) while what it gave is finished."""
        return int(self._largest * CHUNK <= HELD_BYTES)

    def _aligned_pair(self, pair: Pair, crop: Crop, network: IdentityNetwork | None, known: KnownIdentities) -> _AlignedPair | str:
        """Both pictures aligned, or the reason against one of them. The target first: without it no source would help."""
        target = self._align(pair.target(), pair.target_sha256, "target", crop)
        if isinstance(target, str):
            return target
        self._largest = max(self._largest, target.picture.nbytes)
        source = self._align(pair.source(), pair.source_sha256, "source", crop)
        if isinstance(source, str):
            return source
        seen = tuple(known.seen(side.name, partial(side.as_seen_by, network)) for side in (source, target)) if network else ()
        return _AlignedPair(pair.seed, source.crop, source.face, target, seen)

    def _align(self, picture: np.ndarray, sha256: str | None, role: str, crop: Crop) -> _Aligned | str:
        """The picture's only face, or the reason against it."""
        if crop.template == ALIGNED:
            whole = fit(picture, crop.size)
            return _Aligned(whole, whole, sha256=sha256)
        faces = sorted(self._known.of(picture, sha256), key=lambda face: -face.area)
        if not faces:
            return rejections.NO_FACE[role]
        if len(faces) > 1 and faces[1].area >= BYSTANDER * faces[0].area:
            return rejections.SEVERAL_FACES[role]
        return _Aligned(picture, *align(picture, faces[0].landmarks, crop.template, crop.size), faces[0], sha256)

    def _swap_aligned(
        self, generator: Generator, chunk: Sequence[_AlignedPair | str], parameters: Mapping[str, Any], crop: Crop
    ) -> list[_Swapped | Output]:
        """Swaps all pairs of a chunk in one request. What has a reason against it is that rejection already."""
        pairs = [pair for pair in chunk if isinstance(pair, _AlignedPair)]
        if not pairs:
            return [Output(None, str(reason)) for reason in chunk]
        sources, targets = np.stack([pair.source_crop for pair in pairs]), np.stack([pair.target.crop for pair in pairs])
        result = generator.run(SwapRequest([pair.seed for pair in pairs], sources, targets), **parameters)
        outputs: list[Output] = []
        for place, (pair, swapped) in enumerate(zip(pairs, result.images, strict=True)):
            # The crop is judged, not the picture: in a large one a small face that is blank or unchanged would not show.
            reason = result.rejected.get(place) or rejections.reason_against(swapped, pair.target.crop)
            output = Output(None if reason else swapped, reason, {name: values[place] for name, values in result.columns.items()})
            outputs.append(output)
        good = [place for place, output in enumerate(outputs) if output.picture is not None]
        labels = dict(zip(good, self._labels([pairs[place] for place in good]), strict=True))
        made = iter([_Swapped(pairs[place], output, labels[place]) if place in labels else output for place, output in enumerate(outputs)])
        return [next(made) if isinstance(pair, _AlignedPair) else Output(None, pair) for pair in chunk]

    def _labels(self, pairs: Sequence[_AlignedPair]) -> Sequence[np.ndarray | None]:
        """Label maps of the targets' faces, or Nones where the manifest names no parser."""
        if self._parser is None or not pairs:
            return [None] * len(pairs)
        return list(self._parser.labels(np.stack([pair.target.crop for pair in pairs])))

    def _begin_putting_back(
        self, chunk: Sequence[_Swapped | Output], crop: Crop, network: IdentityNetwork | None
    ) -> Begun[_PutBack | Output]:
        def put_back(swapped: _Swapped | Output) -> _PutBack | Output:
            return swapped if isinstance(swapped, Output) else self._put_back(swapped, crop, network)

        return self._threads.begin(put_back, chunk)

    def _put_back(self, swapped: _Swapped, crop: Crop, network: IdentityNetwork | None) -> _PutBack:
        """The swapped crop inside the target picture, with the places of both faces."""
        pair, pixels, measures = swapped.pair, swapped.output.picture, dict(swapped.output.measures)
        target, mask = pair.target, None if swapped.labels is None else face_mask(swapped.labels[None], crop.size)[0]
        assert pixels is not None
        if mask is not None:
            pixels = np.rint(blend_crop(pixels, target.crop, mask)).astype(np.uint8)
            measures["face_share"] = round(float(mask.mean()), 4)
        if target.matrix is None:
            everywhere = np.ones(pixels.shape[:2], bool)
            output = Output(pixels, None, measures, everywhere if mask is None else mask > 0)
        else:
            picture, changed = self._pasted(target, pixels, mask, crop)
            covered = share_covered(target.matrix, crop.size, target.picture.shape)
            places = {
                "target_face": face_as_data(target.face),
                "source_face": face_as_data(pair.source_face),
                "crop": target.matrix.tolist(),
                "crop_size": crop.size,
                "mask_share": round(covered * measures.get("face_share", 1.0), 4),
            }
            output = Output(picture, None, measures | places, changed)
        return _PutBack(pair, output, pixels, (SeenFace(target.as_seen_by(network, output.picture)),) if network else ())

    def _pasted(self, target: _Aligned, pixels: np.ndarray, mask: np.ndarray | None, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """The picture with the crop in it, and where it may differ (bool `[H, W]`): where the soft `mask` of the crop let it through."""
        assert target.matrix is not None
        scale = np.sqrt(abs(np.linalg.det(target.matrix[:, :2])))
        edge = self._settings.soft_edge * crop.size / scale  # in pixels of the picture
        picture, window, weight = paste_window(
            target.picture, pixels, target.matrix, erode=max(1, round(edge)), blur=2 * round(edge / 2) + 1
        )
        # Pasting cuts values down to whole ones, so that the least weight can change a pixel.
        changed = weight > 0
        if mask is not None:
            changed &= unwarp_window(mask.astype(np.float32), target.matrix, window, picture.shape) > 0
        return picture, window.within(picture.shape, changed)

    def _begin_judging(self, chunk: Sequence[_PutBack | Output], network: IdentityNetwork | None, known: KnownIdentities) -> Begun[Output]:
        """Compares the identities of a chunk, together, and begins to measure each swap."""
        made = [item for item in chunk if isinstance(item, _PutBack)]
        cosines = iter(_similarities(made, network, known) if network and made else [None] * len(made))
        judging = [(item, next(cosines)) if isinstance(item, _PutBack) else (item, None) for item in chunk]

        def judge(item: tuple[_PutBack | Output, dict[str, Any] | None]) -> Output:
            return item[0] if isinstance(item[0], Output) else self._judged(item[0], item[1])

        return self._threads.begin(judge, judging)

    def _judged(self, swapped: _PutBack, cosines: dict[str, Any] | None) -> Output:
        """The swap with its similarity and its distances, or rejected because the identity did not move far enough."""
        measures = dict(swapped.output.measures)
        if cosines is not None:
            measures["similarity"] = {name: round(float(value), 4) for name, value in cosines.items()}
            bound = self._settings.min_similarity
            if bound is not None and not cosines["source"] >= bound:  # not-a-number moves nobody
                return Output(None, rejections.NOT_MOVED, measures)
        return replace(swapped.output, measures=measures | self._distances(swapped))

    def _distances(self, swapped: _PutBack) -> dict[str, float]:
        """Pose and expression of the swapped face against the target's, where the detector sees landmarks. They are looked for on the crop,
        where the face is large and nothing else is."""
        target = swapped.pair.target
        if target.face is None or target.face.estimated or target.matrix is None:
            return {}
        faces = self._detector.detect_aligned(swapped.crop)
        if not faces:
            return {}
        largest = max(faces, key=lambda face: face.area)
        return face_distances(transform_points(largest.landmarks, invert(target.matrix)), target.face.landmarks)


def _similarities(swaps: Sequence[_PutBack], network: IdentityNetwork, known: KnownIdentities) -> list[dict[str, Any]]:
    """The cosines of each swap, not rounded."""
    faces = [face for swap in swaps for face in (*swap.pair.seen, *swap.seen)]
    vectors = known.vectors(faces, network).reshape(len(swaps), 3, -1)
    return [
        {"before": similarity(source, target), "source": similarity(face, source), "target": similarity(face, target)}
        for source, target, face in vectors
    ]


def _load_identity(name: str | None, catalogue: Catalogue, device: str | torch.device) -> IdentityNetwork | None:
    if name is None:
        return None
    checkpoint = catalogue.checkpoint(name)
    onnx = checkpoint.path.is_dir() or checkpoint.path.suffix == ".onnx"
    return OnnxIdentity(checkpoint.path, device) if onnx else ArcFaceIdentity(checkpoint, device)

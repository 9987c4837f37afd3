"""Edits inside a chain: whole pictures at the generator's size or at their own, or the faces in them with paste-back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from generators.base import EditRequest, Generator
from generators.faces.detect import Detector, Face
from generators.faces.restoring import is_restorable
from generators.restorer import Restorer
from generators.seeding import derive_seed
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.output import Output, judged
from pipelines.make.regions.places import face_as_data

CHUNK = 16  # pictures with faces that are held in memory at once

Open = Callable[[], np.ndarray]


def edit(
    generator: Generator, pictures: Sequence[Open], seeds: Sequence[int], parameters: Mapping[str, Any], detector: Callable[[], Detector]
) -> Iterator[Output]:
    """One edit for each picture (`uint8` RGB `[H, W, 3]`) and seed, in order. `detector` is asked for where faces are edited."""
    wanted = generator.edit_input(generator.parse_parameters(dict(parameters)))
    if wanted == "square":
        request = EditRequest(seeds, np.stack([fit(picture(), generator.resolution) for picture in pictures]))
        yield from judged(generator.run(request, **parameters))
    elif wanted == "picture":
        for picture, seed in zip(pictures, seeds, strict=True):  # one by one: their sizes differ, and each may be large
            yield from judged(generator.run(EditRequest([seed], picture()[None]), **parameters))
    else:
        assert isinstance(generator, Restorer), f"{generator.name} edits faces and cannot paste them back"
        for start in range(0, len(pictures), CHUNK):
            rows = slice(start, start + CHUNK)
            yield from _restored_faces(generator, pictures[rows], seeds[rows], parameters, detector())


def _restored_faces(
    generator: Restorer, pictures: Sequence[Open], seeds: Sequence[int], parameters: Mapping[str, Any], detector: Detector
) -> Iterator[Output]:
    """All faces of each picture restored in one request, and pasted back one after the other.

    A picture without a face that is large enough is rejected. Measures: `restored_faces`, as `places.face_as_data` writes them, in pixels
    of the result, and `mask_share`, the part of the picture that the pasted faces cover.
    """
    settings = generator.parse_parameters(dict(parameters))
    prepared = [generator.prepare(picture()) for picture in pictures]
    faces = [[face for face in detector.detect(picture) if is_restorable(face.landmarks)] for picture in prepared]
    cut = [generator.cut(picture, [face.landmarks for face in those]) for picture, those in zip(prepared, faces, strict=True)]
    crops = [crop for crops, _ in cut for crop in crops]
    face_seeds = [_face_seed(seed, place) for seed, (own, _) in zip(seeds, cut, strict=True) for place in range(len(own))]
    result = generator.run(EditRequest(face_seeds, np.stack(crops)), **parameters) if crops else None
    start = 0
    for picture, those, (own, matrices) in zip(prepared, faces, cut, strict=True):
        if result is None or not own:
            yield Output(None, rejections.NO_FACE["target"])
            continue
        restored = result.images[start : start + len(own)]
        reasons = [result.rejected.get(start + place) or rejections.reason_against(face) for place, face in enumerate(restored)]
        start += len(own)
        if any(reasons):
            yield Output(None, next(reason for reason in reasons if reason))
            continue
        pasted, mask = generator.paste(picture, restored, matrices, settings)
        scale = pasted.shape[0] / picture.shape[0]
        measures = {"restored_faces": [face_as_data(_enlarged(face, scale)) for face in those], "mask_share": round(float(mask.mean()), 4)}
        yield Output(pasted, None, measures, mask > 0 if mask.ndim == 2 else None)


def _face_seed(seed: int, place: int) -> int:
    """The seed of a face: the picture's own for the first, so that one face alone is what the generator gives for that seed."""
    return derive_seed(seed, "face", place) if place else seed


def _enlarged(face: Face, scale: float) -> Face:
    left, top, right, bottom = (value * scale for value in face.box)
    return replace(face, box=(left, top, right, bottom), landmarks=face.landmarks * scale)

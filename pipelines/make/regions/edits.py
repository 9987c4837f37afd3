"""Edits inside a chain: whole pictures at the generator's size or at their own, or the faces in them with paste-back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from generators.base import EditRequest, Generator
from generators.faces.detect import Detector, Face
from generators.faces.restoring import is_restorable
from generators.restorer import Restorer
from generators.seeding import derive_seed
from pipelines.images import fit
from pipelines.make import rejections
from pipelines.make.output import Output, judged, taken
from pipelines.make.regions.places import face_as_data
from pipelines.make.threads import Threads

CHUNK = 16  # pictures with faces that are held in memory at once

Open = Callable[[], np.ndarray]


def edit(
    generator: Generator,
    pictures: Sequence[Open],
    seeds: Sequence[int],
    parameters: Mapping[str, Any],
    detector: Callable[[], Detector],
    threads: Threads | None = None,
) -> Iterator[Output]:
    """One edit for each picture (`uint8` RGB `[H, W, 3]`) and seed, in order; some are not checked yet. `detector` is asked for where faces
    are edited."""
    threads = threads or Threads(0)
    wanted = generator.edit_input(generator.parse_parameters(dict(parameters)))
    if wanted == "square":
        yield from _squares(generator, pictures, seeds, parameters, threads)
    elif wanted == "picture":
        for picture, seed in zip(pictures, seeds, strict=True):  # one by one: their sizes differ, and each may be large
            yield from judged(generator.run(EditRequest([seed], picture()[None]), **parameters))
    else:
        assert isinstance(generator, Restorer), f"{generator.name} edits faces and cannot paste them back"
        ready = threads.in_order(partial(_prepare, generator, detector()), pictures, CHUNK)
        for start in range(0, len(pictures), CHUNK):
            yield from _restored_faces(generator, list(islice(ready, CHUNK)), seeds[start : start + CHUNK], parameters)


def _squares(
    generator: Generator, pictures: Sequence[Open], seeds: Sequence[int], parameters: Mapping[str, Any], threads: Threads
) -> Iterator[Output]:
    """Edits of pictures at the generator's size: those of the next batches are opened while one is made."""

    def opened(picture: Open) -> np.ndarray:
        return fit(picture(), generator.resolution)

    squares, start = threads.in_order(opened, pictures), 0
    while start < len(pictures):
        batch = np.stack(list(islice(squares, generator.batch_size)))
        for result in generator.batches(EditRequest(seeds[start : start + len(batch)], batch), **parameters):
            yield from taken(result)
        start += len(batch)


@dataclass(frozen=True)
class _Prepared:
    """A picture with its faces that are large enough, their crops, and the matrices `[2, 3]` from the picture to these."""

    picture: np.ndarray
    faces: list[Face]
    crops: list[np.ndarray]
    matrices: list[np.ndarray]


def _prepare(generator: Restorer, detector: Detector, picture: Open) -> _Prepared:
    whole = generator.prepare(picture())
    faces = [face for face in detector.detect(whole) if is_restorable(face.landmarks)]
    return _Prepared(whole, faces, *generator.cut(whole, [face.landmarks for face in faces]))


def _restored_faces(
    generator: Restorer, prepared: Sequence[_Prepared], seeds: Sequence[int], parameters: Mapping[str, Any]
) -> Iterator[Output]:
    """All faces of each picture restored in one request, and pasted back one after the other.

    A picture without a face that is large enough is rejected. Measures: `restored_faces`, as `places.face_as_data` writes them, in pixels
    of the result, and `mask_share`, the part of the picture that the pasted faces cover.
    """
    settings = generator.parse_parameters(dict(parameters))
    crops = [crop for item in prepared for crop in item.crops]
    face_seeds = [_face_seed(seed, place) for seed, item in zip(seeds, prepared, strict=True) for place in range(len(item.crops))]
    result = generator.run(EditRequest(face_seeds, np.stack(crops)), **parameters) if crops else None
    start = 0
    for item in prepared:
        picture, own = item.picture, item.crops
        if result is None or not own:
            yield Output(None, rejections.NO_FACE["target"])
            continue
        restored = result.images[start : start + len(own)]
        reasons = [result.rejected.get(start + place) or rejections.reason_against(face) for place, face in enumerate(restored)]
        start += len(own)
        if any(reasons):
            yield Output(None, next(reason for reason in reasons if reason))
            continue
        pasted, mask = generator.paste(picture, restored, item.matrices, settings)
        scale = pasted.shape[0] / picture.shape[0]
        measures = {
            "restored_faces": [face_as_data(_enlarged(face, scale)) for face in item.faces],
            "mask_share": round(float(mask.mean()), 4),
        }
        yield Output(pasted, None, measures, mask > 0 if mask.ndim == 2 else None)


def _face_seed(seed: int, place: int) -> int:
    """The seed of a face: the picture's own for the first, so that one face alone is what the generator gives for that seed."""
    return derive_seed(seed, "face", place) if place else seed


def _enlarged(face: Face, scale: float) -> Face:
    left, top, right, bottom = (value * scale for value in face.box)
    return replace(face, box=(left, top, right, bottom), landmarks=face.landmarks * scale)

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
from pipelines.make.threads import Begun, Threads

CHUNK = 16  # pictures whose faces are restored together
HELD_BYTES = 512 << 20  # of pictures that wait until restored faces are pasted into them; larger ones are finished chunk by chunk

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
        yield from _faces(generator, pictures, seeds, parameters, detector(), threads)


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


@dataclass(frozen=True)
class _Restored:
    """A picture whose `faces` `[K, S, S, 3]` are restored and not pasted yet, with what a parser says of them where one is asked."""

    prepared: _Prepared
    faces: np.ndarray
    labels: list[np.ndarray] | None


def _faces(
    generator: Restorer, pictures: Sequence[Open], seeds: Sequence[int], parameters: Mapping[str, Any], detector: Detector, threads: Threads
) -> Iterator[Output]:
    """The faces in pictures restored and pasted back: those of the next pictures are looked for while the network works, and those of the
    last ones pasted."""
    settings, largest = generator.parse_parameters(dict(parameters)), 0
    ready = threads.in_order(partial(_prepare, generator, detector), pictures, CHUNK)

    def chunks() -> Iterator[Begun[Output]]:
        nonlocal largest
        for start in range(0, len(pictures), CHUNK):
            prepared = list(islice(ready, CHUNK))
            largest = max([largest, *(item.picture.nbytes * settings.upscale**2 for item in prepared)])
            restored = _restored_faces(generator, prepared, seeds[start : start + CHUNK], parameters, settings)
            yield threads.begin(partial(_pasted, generator, settings), restored)

    for outputs in threads.behind(chunks(), lambda: int(largest * CHUNK <= HELD_BYTES)):
        yield from outputs


def _restored_faces(
    generator: Restorer, prepared: Sequence[_Prepared], seeds: Sequence[int], parameters: Mapping[str, Any], settings: Any
) -> list[_Restored | Output]:
    """All faces of the pictures restored in one request. A picture without a face that is large enough is rejected. `settings` are the
    `parameters` as the generator reads them."""
    crops = [crop for item in prepared for crop in item.crops]
    face_seeds = [_face_seed(seed, place) for seed, item in zip(seeds, prepared, strict=True) for place in range(len(item.crops))]
    result = generator.run(EditRequest(face_seeds, np.stack(crops)), **parameters) if crops else None
    start = 0
    outputs: list[_Restored | Output] = []
    for item in prepared:
        if result is None or not item.crops:
            outputs.append(Output(None, rejections.NO_FACE["target"]))
            continue
        faces = result.images[start : start + len(item.crops)]
        reasons = [result.rejected.get(start + place) or rejections.reason_against(face) for place, face in enumerate(faces)]
        start += len(item.crops)
        reason = next(filter(None, reasons), None)
        outputs.append(Output(None, reason) if reason else _Restored(item, faces, generator.parsed(faces, settings)))
    return outputs


def _pasted(generator: Restorer, settings: Any, restored: _Restored | Output) -> Output:
    """The picture with its restored faces, one pasted after the other. Measures: `restored_faces`, as `places.face_as_data` writes them, in
    pixels of the result, and `mask_share`, the part of the picture that the pasted faces cover."""
    if isinstance(restored, Output):
        return restored
    item = restored.prepared
    picture, mask = generator.paste(item.picture, restored.faces, item.matrices, restored.labels, settings)
    scale = picture.shape[0] / item.picture.shape[0]
    measures = {
        "restored_faces": [face_as_data(_enlarged(face, scale)) for face in item.faces],
        "mask_share": round(float(mask.mean()), 4),
    }
    return Output(picture, None, measures, mask > 0 if mask.ndim == 2 else None)


def _face_seed(seed: int, place: int) -> int:
    """The seed of a face: the picture's own for the first, so that one face alone is what the generator gives for that seed."""
    return derive_seed(seed, "face", place) if place else seed


def _enlarged(face: Face, scale: float) -> Face:
    left, top, right, bottom = (value * scale for value in face.box)
    return replace(face, box=(left, top, right, bottom), landmarks=face.landmarks * scale)

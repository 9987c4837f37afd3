"""Identities of real faces: a network is asked once for each, and the swaps are the same as when it is asked each time."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from generators.base import Crop
from generators.faces.align import ALIGNED
from pipelines.catalogue.catalogue import Catalogue
from pipelines.make.output import Output
from pipelines.make.regions.known_faces import KnownIdentities, SeenFace
from pipelines.make.regions.swaps import FaceSwaps, Pair
from pipelines.make.threads import Threads
from pipelines.manifest.schema import Faces
from tests.pipelines.make.regions.test_swaps import Painter, inverted

SIDE = 64


class Means:
    """An identity network that looks at mean colours, and remembers what it was shown."""

    def __init__(self, size: int = SIDE):
        self.crop, self.shown = Crop("simswap", size), []

    def embed(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        self.shown += [int(image[0, 0, 0]) for image in images]
        means = images.reshape(len(images), -1, 3).mean(1) - 100
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def face(grey: int) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), grey, np.uint8)
    picture[SIDE // 2 :, :, 1] = 255 - grey
    return picture


def test_a_named_face_goes_through_the_network_once_and_one_without_a_name_each_time() -> None:
    known, network = KnownIdentities(), Means()
    for _ in range(2):
        faces = [known.seen(name, partial(face, grey)) for name, grey in (("a", 10), ("b", 20), ("a", 10), (None, 30))]
        vectors = known.vectors(faces, network)
        assert np.array_equal(vectors, Means().embed(np.stack([face(grey) for grey in (10, 20, 10, 30)])))
    assert network.shown == [10, 20, 30, 30]
    assert known.vectors([known.seen("b", partial(face, 99))], network).shape == (1, 3), "its crop is not asked for"
    assert network.shown == [10, 20, 30, 30]


def test_the_oldest_are_forgotten_and_a_face_that_was_seen_keeps_its_vector() -> None:
    known, network = KnownIdentities(most=2), Means()
    for grey in (10, 20):
        known.vectors([known.seen(grey, partial(face, grey))], network)
    seen = known.seen(10, partial(face, 10))
    known.vectors([known.seen(30, partial(face, 30))], network)
    assert np.array_equal(known.vectors([seen], network), Means().embed(face(10)[None])), "10 had been forgotten"
    assert network.shown == [10, 20, 30]
    known.vectors([known.seen(20, partial(face, 20))], network)
    assert network.shown == [10, 20, 30, 20]


def test_nothing_known_and_nothing_new() -> None:
    with pytest.raises(ValueError, match="at least one"):
        KnownIdentities().vectors([], Means())
    vector = np.ones(3, np.float32)
    assert np.array_equal(KnownIdentities().vectors([SeenFace(None, vector)], Means())[0], vector)


def swapped(faces: FaceSwaps, painter: Painter, named: bool) -> list[Output]:
    """Seventy swaps of seven people, so that there are three chunks."""
    pictures = [face(20 + 30 * number) for number in range(7)]
    drawn = [(place % 7, (place * 3 + 1) % 7) for place in range(70)]
    names = [f"picture {number}" if named else None for number in range(7)]
    pairs = [
        Pair(seed, partial(np.asarray, pictures[a]), partial(np.asarray, pictures[b]), names[a], names[b])
        for seed, (a, b) in enumerate(drawn)
    ]
    return list(faces.swap(painter, pairs, {}))


def test_each_real_face_is_embedded_once_a_build_and_the_swaps_are_the_same() -> None:
    crop, outputs, shown = Crop(ALIGNED, SIDE), [], []
    for named in (False, True):
        faces = FaceSwaps(Faces(), Catalogue({}, Path()), threads=Threads(0))
        faces._identity = network = Means()
        outputs.append(swapped(faces, Painter(inverted, crop), named))
        shown.append(len(network.shown))
    plain, known = outputs
    assert shown == [3 * 70, 70 + 7]
    assert [output.measures for output in plain] == [output.measures for output in known]
    assert all(np.array_equal(before.picture, after.picture) for before, after in zip(plain, known, strict=True))


def test_swappers_of_other_sizes_and_with_other_networks_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is a face is seen at the swapper's size, and a swapper's own identity network is known to it alone."""
    faces = FaceSwaps(Faces(min_similarity=-1.0), Catalogue({}, Path()), threads=Threads(2))
    asked: list[str] = []
    for name, size in (("first", SIDE), ("second", SIDE), ("small", 32)):
        painter = Painter(inverted, Crop(ALIGNED, size))
        plain = painter.embed_faces
        monkeypatch.setattr(painter, "embed_faces", lambda crops, name=name, plain=plain: asked.extend([name] * len(crops)) or plain(crops))
        swapped(faces, painter, True)
    assert {name: asked.count(name) for name in set(asked)} == dict.fromkeys(("first", "second", "small"), 70 + 7)
    faces._identity = network = Means()
    for size in (SIDE, 32, SIDE):
        swapped(faces, Painter(inverted, Crop(ALIGNED, size)), True)
    assert len(network.shown) == 3 * 70 + 2 * 7

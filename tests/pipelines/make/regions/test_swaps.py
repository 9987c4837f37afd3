"""Swaps of whole pictures: what is found, put back, measured and refused. The faces are two portraits in the public domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from generators.base import Crop, Generator
from generators.checkpoints import Checkpoint
from generators.faces.align import align, template_points, transform_points
from generators.faces.detect import CascadeDetector, Detector, Face
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.make import rejections
from pipelines.make.framing import frame_of
from pipelines.make.output import Output
from pipelines.make.regions.places import in_stored_pixels
from pipelines.make.regions.swaps import FaceSwaps, Pair
from pipelines.make.threads import Threads
from pipelines.manifest.schema import Faces
from pipelines.plan.keys import face_settings

ASSETS = Path(__file__).resolve().parents[4].parent / "shared" / "assets"
SIZE = 64


class Painter(Generator):
    """A swapper that shifts every colour, or does what a test tells it. Its identity network looks at mean colours."""

    name = "painter"
    family = "GAN"
    kinds = ("swap",)
    resolution = SIZE

    def __init__(self, paint: Callable[[np.ndarray, np.ndarray], np.ndarray], crop: Crop = Crop("simswap", SIZE)):  # noqa: B008
        self.paint = paint
        self.crop = crop
        self.seen: list[np.ndarray] = []

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Painter:
        raise NotImplementedError

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        self.seen += list(targets)
        return np.stack([self.paint(source, target) for source, target in zip(sources, targets, strict=True)])

    def embed_faces(self, faces: np.ndarray) -> np.ndarray:
        means = faces.reshape(len(faces), -1, 3).mean(1) - 100
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def inverted(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return 255 - target


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    import skimage.data

    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def admiral() -> np.ndarray:
    import matplotlib.cbook
    from PIL import Image

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def swap(
    generator: Generator,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    faces: FaceSwaps | None = None,
    **settings: Any,
) -> list[Output]:
    faces = faces or FaceSwaps(Faces(**settings), Catalogue({}, Path()))
    opened = [Pair(seed, partial(np.asarray, source), partial(np.asarray, target)) for seed, (source, target) in enumerate(pairs)]
    return list(faces.swap(generator, opened, {}))


def test_a_face_is_swapped_in_its_place_and_the_rest_of_the_picture_stays(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    (output,) = swap(Painter(inverted), [(admiral, astronaut)])
    assert output.picture is not None
    assert output.picture.shape == astronaut.shape
    left, top, right, bottom = (round(value) for value in output.measures["target_face"]["box"])
    changed = np.abs(output.picture.astype(int) - astronaut).mean(-1)
    middle = (slice((top + bottom) // 2 - 10, (top + bottom) // 2 + 10), slice((left + right) // 2 - 10, (left + right) // 2 + 10))
    assert np.abs(output.picture[middle].astype(int) - (255 - astronaut[middle])).mean() < 20
    assert 0 < (changed > 0).mean() <= output.measures["mask_share"] + 0.01 < 0.2
    assert changed[:20].max() == changed[-100:].max() == 0
    assert output.mask is not None and output.mask.shape == changed.shape
    assert not (changed > 0)[~output.mask].any(), "nothing changes outside the mask"
    assert (changed > 0)[output.mask].mean() > 0.9, "and nearly everything inside it"


def test_the_recorded_matrix_makes_the_crop_again(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    painter = Painter(inverted)
    (output,) = swap(painter, [(admiral, astronaut)])
    matrix = np.array(output.measures["crop"])
    again = cv2.warpAffine(astronaut, matrix, (SIZE, SIZE))
    assert np.abs(again.astype(int) - painter.seen[0]).max() <= 2
    landmarks = transform_points(np.array(output.measures["target_face"]["landmarks"]), matrix)
    assert min(np.abs(landmarks - points).max() for points in template_points("simswap", SIZE)) < 0.15 * SIZE


def test_places_are_in_pixels_of_the_stored_picture(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    """The admiral's picture is upright, so its middle square is kept: places move with it."""
    (whole,) = swap(Painter(inverted), [(astronaut, admiral)])
    height, width = admiral.shape[:2]
    before = deepcopy(whole.measures)
    stored = in_stored_pixels(whole.measures, frame_of((height, width), 128, 0))
    assert whole.measures == before  # what was handed in stays as it was
    scale = 128 / min(height, width)
    shift = np.array([(width - min(height, width)) // 2, (height - min(height, width)) // 2])
    expected = (np.array(whole.measures["target_face"]["landmarks"]) + 0.5 - shift) * scale - 0.5
    landmarks = np.array(stored["target_face"]["landmarks"])
    assert np.abs(landmarks - expected).max() < 0.02
    in_crop = [
        transform_points(np.array(measures["target_face"]["landmarks"]), np.array(measures["crop"])) for measures in (before, stored)
    ]
    assert np.abs(in_crop[0] - in_crop[1]).max() < 0.1
    assert stored["source_face"] == in_stored_pixels(whole.measures, None)["source_face"]
    assert in_stored_pixels({"rank": 3}, frame_of((height, width), 128, 0)) == {"rank": 3}


def test_each_refusal_has_its_reason_and_the_others_go_on(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    nobody, two = np.full((200, 200, 3), 90, np.uint8), np.concatenate([astronaut[:256, 96:352]] * 2, 1)
    pairs = [(nobody, astronaut), (admiral, nobody), (two, astronaut), (admiral, two), (admiral, astronaut)]
    outputs = swap(Painter(inverted), pairs)
    assert [output.reason for output in outputs] == [
        "no face in source",
        "no face in target",
        "more than one face in source",
        "more than one face in target",
        None,
    ]
    assert [output.picture is None for output in outputs] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("paint", "reason"),
    [
        (lambda source, target: target, rejections.NO_OP),
        (
            lambda source, target: np.clip(target.astype(int) + (np.arange(SIZE) % 8 == 0)[:, None, None], 0, 255).astype(np.uint8),
            rejections.NO_OP,
        ),
        (lambda source, target: np.zeros_like(target), rejections.BLANK),  # what not-a-number becomes
        (inverted, None),
    ],
)
def test_the_crop_is_judged_not_the_picture(astronaut: np.ndarray, admiral: np.ndarray, paint: Any, reason: str | None) -> None:
    assert swap(Painter(paint), [(admiral, astronaut)])[0].reason == reason


def test_a_swap_must_move_the_identity_towards_the_source(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    tinted = [
        np.clip(picture * np.array(tint), 0, 255).astype(np.uint8)
        for picture, tint in ((admiral, (1, 0.2, 0.2)), (astronaut, (0.2, 0.2, 1)))
    ]
    to_source = Painter(lambda source, target: np.clip(source.astype(int) + 8, 0, 255).astype(np.uint8))
    to_target = Painter(lambda source, target: np.clip(target.astype(int) + 8, 0, 255).astype(np.uint8))
    moved, stayed = (swap(painter, [tuple(tinted)], min_similarity=0.6)[0] for painter in (to_source, to_target))
    assert moved.reason is None
    assert stayed.reason == rejections.NOT_MOVED
    assert moved.measures["similarity"]["source"] > 0.6 > stayed.measures["similarity"]["source"]
    assert stayed.measures["similarity"]["target"] > 0.9
    assert moved.measures["similarity"]["before"] == stayed.measures["similarity"]["before"] < 0.6
    assert "similarity" not in swap(to_source, [tuple(tinted)])[0].measures


def test_aligned_pictures_go_straight_through_and_are_judged_too(astronaut: np.ndarray) -> None:
    painter = Painter(lambda source, target: 255 - source, Crop("aligned", SIZE))
    pair = (astronaut[:200, 100:300], np.full((128, 128, 3), 90, np.uint8) + np.arange(128, dtype=np.uint8)[:, None, None])
    free, bound = swap(painter, [pair])[0], swap(painter, [pair], min_similarity=0.5)[0]
    assert free.reason is None
    assert free.picture is not None
    assert free.picture.shape == (SIZE, SIZE, 3)
    assert free.measures == {}
    assert bound.reason == rejections.NOT_MOVED


def test_face_parsing_keeps_the_swap_inside_the_face(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    class UpperHalf:
        def labels(self, images: np.ndarray) -> np.ndarray:
            labels = np.zeros((len(images), 512, 512), np.uint8)
            labels[:, :256] = 1
            return labels

    faces = FaceSwaps(Faces(), Catalogue({}, Path()))
    faces._parser = UpperHalf()  # type: ignore[assignment]
    (output,) = swap(Painter(inverted), [(admiral, astronaut)], faces=faces)
    assert output.picture is not None
    assert 0.2 < output.measures["face_share"] < 0.5
    (whole,) = swap(Painter(inverted), [(admiral, astronaut)])
    assert output.mask is not None and whole.mask is not None
    assert 0.2 < output.mask.sum() / whole.mask.sum() < 0.8 and not (output.mask & ~whole.mask).any()
    assert not (output.picture != astronaut).any(-1)[~whole.mask].any()
    left, top, right, bottom = (round(value) for value in output.measures["target_face"]["box"])
    middle, columns = (top + bottom) // 2, slice(left + 20, right - 20)
    change = np.abs(output.picture.astype(int) - astronaut).mean(-1)
    assert change[middle - 30 : middle - 15, columns].mean() > 40
    assert change[middle + 15 : middle + 30, columns].mean() < 10  # the target, as fine as the crop was


def test_a_bystander_does_not_count(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    class Fixed(Detector):
        def _find(self, image: np.ndarray) -> list[Face]:
            points = np.array([[203, 112], [246, 111], [222, 133], [206, 150], [246, 150]], np.float32)
            return [Face((400.0, 10.0, 430.0, 40.0), points + 200, 0.99), Face((180.0, 70.0, 270.0, 170.0), points, 0.9)]

    Fixed.padding = 0.0
    faces = FaceSwaps(Faces(), Catalogue({}, Path()))
    faces._detector = Fixed()
    (output,) = swap(Painter(inverted), [(astronaut, astronaut)], faces=faces)
    assert output.reason is None
    assert output.measures["target_face"]["box"] == [180.0, 70.0, 270.0, 170.0]


def test_the_landmarks_of_the_result_are_looked_for_on_its_crop(astronaut: np.ndarray) -> None:
    """This detector sees in a crop what the template says, which is where the target's landmarks were put, and 3 px to the right of it."""
    points = np.array([[203, 112], [246, 111], [222, 133], [206, 150], [246, 150]], np.float32)
    matrix = align(astronaut, points, "simswap", SIZE)[1]
    shift = np.array([3, 0], np.float32)

    class Fixed(Detector):
        padding = 0.0

        def _find(self, image: np.ndarray) -> list[Face]:
            whole = image.shape == astronaut.shape
            return [Face((0, 0, 90, 90), points if whole else (transform_points(points, matrix) + shift).astype(np.float32), 0.9)]

    faces = FaceSwaps(Faces(), Catalogue({}, Path()))
    faces._detector = Fixed()
    (output,) = swap(Painter(inverted), [(astronaut, astronaut)], faces=faces)
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    assert output.measures["pose_distance"] == pytest.approx(3 / scale / np.linalg.norm(points[1] - points[0]), abs=1e-3)
    assert output.measures["expression_distance"] == pytest.approx(0, abs=1e-3)


class Counting(Detector):
    """The cascade, counting what it is shown."""

    def __init__(self) -> None:
        self.cascade, self.shown = CascadeDetector(), 0

    def _find(self, image: np.ndarray) -> list[Face]:
        self.shown += 1
        return self.cascade._find(image)


def test_threads_and_known_faces_give_the_same_bytes_as_the_plain_way(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    """Forty pairs of five pictures, one without a face, so that there are two chunks and each picture is seen again and again."""
    pictures = [astronaut, admiral, astronaut[:, ::-1], np.full((200, 200, 3), 90, np.uint8), np.ascontiguousarray(admiral[::-1][::-1])]
    drawn = [(place % 5, (place * 3 + 1) % 5) for place in range(40)]
    outputs, shown = [], []
    for threads, known in ((Threads(0), False), (Threads(4), True)):
        faces = FaceSwaps(Faces(min_similarity=-1.0), Catalogue({}, Path()), threads=threads)
        faces._detector = counting = Counting()
        pairs = [
            Pair(seed, partial(np.asarray, pictures[a]), partial(np.asarray, pictures[b]), *((str(a), str(b)) if known else ()))
            for seed, (a, b) in enumerate(drawn)
        ]
        outputs.append(list(faces.swap(Painter(inverted), pairs, {})))
        shown.append(counting.shown)
    plain, threaded = outputs
    assert [output.reason for output in plain] == [output.reason for output in threaded]
    assert len({output.reason for output in plain}) == 3
    for before, after in zip(plain, threaded, strict=True):
        assert before.measures == after.measures
        assert (before.picture is None) == (after.picture is None)
        if before.picture is not None:
            assert np.array_equal(before.picture, after.picture) and np.array_equal(before.mask, after.mask)
    once = Counting()
    for picture in pictures:
        once.detect(picture)
    assert shown[1] == once.shown < shown[0]


def test_what_a_picture_raises_comes_in_its_turn(astronaut: np.ndarray, admiral: np.ndarray) -> None:
    def unreadable() -> np.ndarray:
        raise OSError("cut short")

    opened = [partial(np.asarray, admiral), partial(np.asarray, astronaut)]
    pairs = [Pair(0, *opened), Pair(1, unreadable, opened[1]), Pair(2, *opened)]
    for threads in (Threads(0), Threads(4)):
        faces = FaceSwaps(Faces(), Catalogue({}, Path()), threads=threads)
        with pytest.raises(OSError, match="cut short"):
            list(faces.swap(Painter(inverted), pairs, {}))


def test_what_decides_swaps_is_in_the_key_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"one")
    (tmp_path / "b.onnx").write_bytes(b"two")
    entries = {name: CheckpointEntry(file=f"{name}.onnx", licence="test") for name in ("a", "b")}
    catalogue = Catalogue(entries, tmp_path)
    found = [
        face_settings(Faces(**settings), catalogue)
        for settings in (
            {},
            {"detector": "a"},
            {"detector": "b"},
            {"padding": 0.3},
            {"soft_edge": 0.1},
            {"identity": "a"},
            {"min_similarity": 0.2},
        )
    ]
    assert all(one != other for place, one in enumerate(found) for other in found[:place])
    (tmp_path / "a.onnx").write_bytes(b"three")
    assert face_settings(Faces(detector="a"), catalogue) == found[1]  # one plan asks once what a file is
    assert face_settings(Faces(detector="a"), Catalogue(entries, tmp_path)) != found[1]


@pytest.mark.skipif(not ASSETS.is_dir(), reason=f"the research-only test assets are not in {ASSETS}")
def test_real_faces_with_a_real_detector_and_identity_network() -> None:
    """A swapper that gives the source's own crop: the result is the source, in the target's place and pose."""
    from PIL import Image

    entries = {
        "scrfd": CheckpointEntry(file="detector/scrfd_500m_kps_2d.onnx", licence="research"),
        "vface": CheckpointEntry(file="identity/vface_mobilefacenet.onnx", licence="research"),
    }
    faces = FaceSwaps(Faces(detector="scrfd", identity="vface", min_similarity=0.4), Catalogue(entries, ASSETS))
    files = sorted((ASSETS / "faces" / "celebahq").rglob("*.jpg"))[:6]
    pictures = [np.asarray(Image.open(file).convert("RGB").resize((256, 256))) for file in files]
    pairs = list(zip(pictures[:3], pictures[3:], strict=True))
    moved = swap(Painter(lambda source, target: source, Crop("simswap", 224)), pairs, faces=faces)
    stayed = swap(Painter(lambda source, target: target[:, ::-1], Crop("simswap", 224)), pairs, faces=faces)
    assert [output.reason for output in moved] == [None] * 3
    assert [output.reason for output in stayed] == [rejections.NOT_MOVED] * 3
    for output in moved:
        assert output.measures["similarity"]["source"] > output.measures["similarity"]["before"] + 0.2
        assert 0 < output.measures["pose_distance"] < 0.3
        assert not output.measures["target_face"]["estimated"]

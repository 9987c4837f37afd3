"""Pictures that a package may carry: what the demo's generators learn from, and the real images that they are told apart from.

They lie inside the wheels of scikit-image, scikit-learn and matplotlib, so nothing is downloaded. There are two collections.

"faces", grey (three equal channels): the 100 faces of `lfw_subset` and, brought to the same framing and the same 25 px before anything
else, Eileen Collins (astronaut) and Grace Hopper. 102 photographs, one `Picture` each, of 34 x 34 px, enlarged from 25 px; a crop of
32 px has nine places and two mirrorings. Held out by photograph: every third face of `lfw_subset` and Grace Hopper, 34 in all; the other
68 are for training. `lfw_subset` does not name its people, so `identity` is the photograph's name, and one person may be there twice.

"photos", colour: nine photographs, each reduced to a short side of 108 px and cut into cells of 36 x 36 px, one `Picture` for each cell.
The cells of a photograph are a chessboard: black ones train (50), white ones are held out (46), so both parts have every photograph and
no pixel in common. A crop of 32 px has 25 places and two mirrorings.

Both parts of a collection go through the same steps, and both are meant to be seen through `crop`, so that nothing but the pictures
themselves tells real from generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from foreign.pictures import SUFFIXES, read_image
from generators.errors import InputError
from generators.seeding import numpy_rng

Collection = Literal["faces", "photos"]

SIZE = 32  # of the demo's images, in pixels
FACE_SOURCE = 25  # the pixels that lfw_subset gives a face
FACE_PICTURE = 34  # two more than SIZE: nine places for a crop
PHOTO_SHORT_SIDE = 108
PHOTO_CELL = 36


@dataclass(frozen=True)
class Picture:
    """`image` is `uint8` RGB `[H, W, 3]`. `photograph` names where it comes from: all pictures of one photograph belong in one split.
    `identity` names the person as far as it is known, None if there is none."""

    image: np.ndarray
    photograph: str
    identity: str | None
    licence: str
    attribution: str


@dataclass(frozen=True)
class _Photograph:
    name: str
    package: str
    path: str
    licence: str
    attribution: str
    face: tuple[int, int, int] | None = None  # left, top, side: the framing of lfw_subset

    def read(self) -> Image.Image:
        return Image.open(_packaged(self.package, self.path)).convert("RGB")


_ASTRONAUT = _Photograph("astronaut", "skimage", "data/astronaut.png", "public domain", "NASA, Eileen Collins", (171, 64, 104))
_GRACE_HOPPER = _Photograph(
    "grace-hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "public domain", "James S. Davis, US Navy", (166, 112, 208)
)
_PHOTOGRAPHS = (
    _ASTRONAUT,
    _Photograph("chelsea", "skimage", "data/chelsea.png", "CC0-1.0", "Stefan van der Walt"),
    _Photograph("coffee", "skimage", "data/coffee.png", "CC0-1.0", "Rachel Michetti, Pikolo Espresso Bar"),
    _Photograph("rocket", "skimage", "data/rocket.jpg", "public domain", "SpaceX"),
    _Photograph("hubble", "skimage", "data/hubble_deep_field.jpg", "public domain", "NASA, ESA, Hubble eXtreme Deep Field"),
    _Photograph("retina", "skimage", "data/retina.jpg", "CC0-1.0", "Mikael Häggström"),
    _Photograph("ihc", "skimage", "data/ihc.png", "no known copyright restrictions", "Center for Microscopy and Molecular Imaging (CMMI)"),
    _Photograph("china", "sklearn", "datasets/images/china.jpg", "CC-BY-2.0", "danielbuechele, flickr.com/photos/danielbuechele"),
    _Photograph("flower", "sklearn", "datasets/images/flower.jpg", "CC-BY-2.0", "vultilion, flickr.com/photos/vultilion"),
)
_LFW_LICENCE = "LFW, for research; carried by scikit-image"
_LFW_ATTRIBUTION = "Huang, Mattar, Lee and Learned-Miller, Learning to Align from Scratch, 2012"


def training_pictures(collection: Collection) -> list[Picture]:
    """What a generator may learn from, in a fixed order: 68 faces, or the black cells of the photographs."""
    return list(_split(collection)[0])


def held_out_pictures(collection: Collection) -> list[Picture]:
    """What no generator has seen, in a fixed order: 34 faces, or the white cells of the photographs."""
    return list(_split(collection)[1])


def pictures_in(folder: Path, size: int) -> list[Picture]:
    """The images of a user's folder (subfolders too, sorted by path), the short side of each reduced to `size` pixels.

    The photograph is the path inside the folder, the identity the subfolder if there is one. Raises InputError if there are none, or
    naming the first that cannot be read or is smaller than `size`.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"there are no images in {folder}", "Give a folder of images to learn from")
    pictures = []
    for path in paths:
        image = Image.fromarray(read_image(path))
        if min(image.size) < size:
            raise InputError(
                f"{path} is {image.width} x {image.height} px, smaller than {size} px", "Remove it, or train at a smaller size"
            )
        name = path.relative_to(folder)
        identity = name.parts[0] if len(name.parts) > 1 else None
        pictures.append(Picture(_reduced(image, size), name.as_posix(), identity, "the user's own", str(folder)))
    return pictures


def crop(picture: Picture, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """A random crop of `picture`, mirrored half of the time: `uint8` RGB `[size, size, 3]`."""
    height, width = picture.image.shape[:2]
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    cut = picture.image[top : top + size, left : left + size]
    return np.ascontiguousarray(cut[:, ::-1] if rng.random() < 0.5 else cut)


def distinct_crops(pictures: Sequence[Picture], count: int, seed: int, size: int = SIZE) -> list[tuple[Picture, np.ndarray]]:
    """`count` crops, no two alike in every pixel, as evenly from all pictures as `count` allows.

    Raises InputError when the pictures do not have that many.
    """
    rng, seen = numpy_rng(seed, "crops"), set()
    crops: list[tuple[Picture, np.ndarray]] = []
    for attempt in range(50 * count + 1):
        if len(crops) == count:
            return crops
        picture = pictures[attempt % len(pictures)]
        cut = crop(picture, rng, size)
        if cut.tobytes() not in seen:
            seen.add(cut.tobytes())
            crops.append((picture, cut))
    raise InputError(f"{len(pictures)} pictures do not have {count} different crops of {size} px", f"Ask for at most {len(crops)}")


def channels_of(pictures: Sequence[Picture]) -> int:
    """1 if every picture is grey, so that a generator of them need not be able to make anything else; otherwise 3."""
    return 1 if all((picture.image == picture.image[..., :1]).all() for picture in pictures) else 3


@cache
def _split(collection: Collection) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    if collection == "faces":
        return _faces()
    if collection == "photos":
        return _photos()
    raise InputError(f"there is no collection {collection!r}", "Known: faces, photos")


def _faces() -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    small = np.load(_packaged("skimage", "data/lfw_subset.npy"))[:100]  # the second hundred are not faces
    faces = []
    for index, pixels in enumerate(small):
        name = f"lfw-{index:03d}"
        faces.append(Picture(_enlarged(Image.fromarray(pixels.astype(np.float32) * 255)), name, name, _LFW_LICENCE, _LFW_ATTRIBUTION))
    known = {}
    for photograph in (_ASTRONAUT, _GRACE_HOPPER):
        assert photograph.face is not None
        left, top, side = photograph.face
        grey = photograph.read().convert("L").convert("F").crop((left, top, left + side, top + side))
        image = _enlarged(grey.resize((FACE_SOURCE, FACE_SOURCE), Image.Resampling.BOX))
        known[photograph.name] = Picture(image, photograph.name, photograph.name, photograph.licence, photograph.attribution)
    training = [face for index, face in enumerate(faces) if index % 3 != 2]
    return (*training, known["astronaut"]), (*faces[2::3], known["grace-hopper"])


def _photos() -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    parts: tuple[list[Picture], list[Picture]] = ([], [])
    for photograph in _PHOTOGRAPHS:
        pixels = _reduced(photograph.read(), PHOTO_SHORT_SIDE)
        rows, columns = pixels.shape[0] // PHOTO_CELL, pixels.shape[1] // PHOTO_CELL
        top, left = (pixels.shape[0] - rows * PHOTO_CELL) // 2, (pixels.shape[1] - columns * PHOTO_CELL) // 2
        for row in range(rows):
            for column in range(columns):
                y, x = top + row * PHOTO_CELL, left + column * PHOTO_CELL
                cell = pixels[y : y + PHOTO_CELL, x : x + PHOTO_CELL]
                parts[(row + column) % 2].append(Picture(cell, photograph.name, None, photograph.licence, photograph.attribution))
    return tuple(parts[0]), tuple(parts[1])


def _reduced(image: Image.Image, short_side: int) -> np.ndarray:
    """`image` with its short side brought to `short_side` px, `uint8` RGB."""
    scale = short_side / min(image.size)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS))


def _enlarged(grey: Image.Image) -> np.ndarray:
    """A grey float face of 25 px at FACE_PICTURE px, `uint8` RGB."""
    large = np.asarray(grey.resize((FACE_PICTURE, FACE_PICTURE), Image.Resampling.BICUBIC))
    return np.repeat(large.round().clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _packaged(package: str, path: str) -> Path:
    """A data file of an installed package, without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"the pictures need the package {package}", "Install the project with its dependencies")
    file = Path(spec.origin).parent / path
    if not file.is_file():
        raise InputError(f"{package} does not carry {path}", "Install the version that pyproject.toml pins")
    return file

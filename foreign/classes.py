"""The words for real and fake in the names of folders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

REAL, FAKE = 0, 1
CLASSES = ("real", "fake")  # by label

# PLAIN_NAMES are the words of most datasets. OTHER_NAMES name a class only in a path without a plain name: in `nature/real`, `nature`
# is a subset.
PLAIN_NAMES = {"real": REAL, "reals": REAL, "fake": FAKE, "fakes": FAKE}
OTHER_NAMES = {
    **dict.fromkeys(("nature", "natural", "original", "originals", "authentic", "genuine", "pristine", "bonafide"), REAL),
    **dict.fromkeys(("ai", "generated", "ai generated", "synthetic", "synthesized", "synthesised", "manipulated"), FAKE),
    **dict.fromkeys(("deepfake", "deepfakes", "forged", "tampered"), FAKE),
}
ADDED = re.compile(r"^\d+ | (?:images?|imgs?|pictures?|photos?|faces?|frames?|videos?)$")  # `0_real`, `fake_images`


def class_place(folders: Sequence[str]) -> tuple[int, int] | None:
    """Where the folders above a picture name its class, and which: (depth, label). None if none does.

    The plain words go before the others. Raises ValueError if the folders name both classes.
    """
    named = [(depth, *label_of(name)) for depth, name in enumerate(folders)]
    classes = [(depth, label) for depth, label, is_plain in named if label is not None and is_plain]
    classes = classes or [(depth, label) for depth, label, _ in named if label is not None]
    if len({label for _, label in classes}) > 1:
        raise ValueError("both classes")
    return classes[0] if classes else None


def label_of(folder: str) -> tuple[int | None, bool]:
    """The label that a folder's name gives to what lies in it, or None, and whether the name is a plain word."""
    name = word(folder)
    return PLAIN_NAMES.get(name, OTHER_NAMES.get(name)), name in PLAIN_NAMES


def accepted_names() -> str:
    """The folder names that are understood, for a message."""
    names = {**PLAIN_NAMES, **OTHER_NAMES}
    return "; ".join(f"for {kind}: {', '.join(name for name, of in names.items() if of == label)}" for label, kind in enumerate(CLASSES))


def plain(name: str) -> str:
    """A name without what writing varies in: case, composed letters, spaces at the ends, `-` and `_`."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def word(name: str) -> str:
    """A class's name without the number before it and the kind of picture after it."""
    return ADDED.sub("", ADDED.sub("", plain(name)))

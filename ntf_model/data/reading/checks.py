"""What no data may have: one picture in both classes. And what is said of data: the same picture in two splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ntf_model.data.reading.labels import CLASSES
from ntf_model.errors import InputError


def check_contents(pictures: Iterable[tuple[int, str, str]], where: str) -> None:
    """`pictures` are (label, sha256 of the content, id). InputError if one content or one id has both labels."""
    by_content: dict[str, tuple[int, str]] = {}
    by_id: dict[str, int] = {}
    for label, content, name in pictures:
        other, first = by_content.setdefault(content, (label, name))
        if other != label:
            names = {other: first, label: name}
            raise InputError(
                f"{where}: {names[0]} is {CLASSES[0]} and {names[1]} is {CLASSES[1]}, but they are the same picture", "Remove one of them"
            )
        if by_id.setdefault(name, label) != label:
            raise InputError(f"{where}: {name} is both real and fake", "Give each picture one label")


def shared_pictures(contents: Mapping[str, Sequence[str]]) -> str:
    """A sentence about pictures of the test split that are in training or validation too, by their contents; nothing if there are none."""
    elsewhere = {content for split, of in contents.items() if split != "test" for content in of}
    count = sum(content in elsewhere for content in contents.get("test", ()))
    return f"{count} pictures of the test split are in training or validation too: the figures are too good" if count else ""

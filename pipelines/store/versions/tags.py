"""Names of versions. Lance keeps each in a small file, `_refs/tags/NAME.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from urllib.parse import quote, unquote

import lance

from generators.errors import InputError
from pipelines.place import Place
from pipelines.store.damage import is_reading_fault, reason_of

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Tags:
    """The tags of the dataset `name`, whose files lie in `files`."""

    def __init__(self, name: str, files: Place):
        self._name = name
        self._files = files

    def read(self, dataset: lance.LanceDataset) -> dict[str, int]:
        """The number of the version of each tag. InputError if one of them keeps Lance from listing them."""
        try:
            return {tag: int(facts["version"]) for tag, facts in dataset.tags.list().items()}
        except BaseException as error:
            if not is_reading_fault(error):
                raise
            names = [unquote(file.removesuffix(".json")) for file in self._files.sizes()]
            wrong = [name for name in names if not name.isascii() or self._number(name) is None]
            fix = f"`ntf store untag {self._name} {wrong[0]}`" if wrong else "Look into its folder _refs/tags"
            raise InputError(f"the tags of {self._name} cannot be read", fix) from None

    def create(self, dataset: lance.LanceDataset, name: str) -> None:
        """Gives the version `dataset` a name. InputError if it is taken or is no name."""
        if not TAG.fullmatch(name) or ".." in name or name.endswith((".", ".lock")) or name.isdigit():
            # A tag with a letter outside ASCII makes Lance look for a file that is not there, in every later command.
            reason = (
                "a number is the number of a version"
                if name.isdigit()
                else "a tag has letters A to Z, digits, `_`, and within it `-` and `.`"
            )
            raise InputError(f"cannot tag a version as {name!r}: {reason}", "Choose another name, such as first-release")
        if name in self.read(dataset):
            raise InputError(f"cannot tag version {dataset.version} as {name!r}: it is taken", "Choose another name, or `ntf store untag`")
        try:
            dataset.tags.create(name, dataset.version)
        except BaseException as error:
            if not is_reading_fault(error):
                raise
            message = f"cannot tag version {dataset.version} as {name!r}: {reason_of(error)}"
            raise InputError(message, "Check whether the store can be written, or choose another name") from None

    def remove(self, dataset: lance.LanceDataset, name: str) -> int:
        """Takes the name away. Returns the number of the version that had it. InputError if there is no such tag."""
        file = f"{quote(name)}.json"
        if not name.isascii() and (number := self._number(name)) is not None:
            self._files.remove(file)  # of a release that let such a tag pass; Lance itself cannot name it
            return number
        if TAG.fullmatch(name) and self._files.read(file) is not None and self._number(name) is None:
            self._files.remove(file)  # damaged: nobody knows of which version it was
            return 0
        known = self.read(dataset)
        if name not in known:
            raise InputError(f"{self._name} has no tag {name!r}", f"Its tags: {', '.join(sorted(known)) or 'none'}")
        dataset.tags.delete(name)
        return known[name]

    def drop(self, numbers: Collection[int]) -> tuple[str, ...]:
        """Removes the tags of versions that are no more, by their files: Lance would look for the versions. Gives the tags."""
        names = [unquote(file.removesuffix(".json")) for file in self._files.sizes() if file.endswith(".json")]
        gone = sorted(name for name in names if self._number(name) in set(numbers))
        for name in gone:
            self._files.remove(f"{quote(name)}.json")
        return tuple(gone)

    def _number(self, name: str) -> int | None:
        """The version of a tag, from its file; None if there is no such file, or it is damaged."""
        data = self._files.read(f"{quote(name)}.json")
        try:
            return None if data is None else int(json.loads(data)["version"])
        except (ValueError, KeyError, TypeError):
            return None

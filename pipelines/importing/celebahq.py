"""Whom the pictures of CelebA-HQ show: by its mapping to CelebA, and CelebA's list of identities."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from foreign.errors import InputError
from foreign.lists import read_lines, read_pairs
from foreign.text import visible


class CelebaHQ:
    """The identity of a picture of CelebA-HQ by its number, which every release has in the picture's name (`0.jpg`, `00000.png`,
    `imgHQ00000.png`)."""

    def __init__(self, mapping: Path, identities: Path):
        """`mapping` is CelebA-HQ-to-CelebA-mapping.txt, or the image_list.txt of the authors: lines `idx orig_idx orig_file ...` under a
        header. `identities` is identity_CelebA.txt: lines `000001.jpg 2880`. InputError if one of them is something else.
        """
        people = read_pairs(identities, "CelebA's identity list")
        self._people: dict[int, str] = {}
        self._mapping = mapping
        for number, line in read_lines(mapping, "the mapping of CelebA-HQ"):
            cells = line.split()
            if cells[:1] == ["idx"]:
                continue
            if len(cells) < 3 or not cells[0].isdecimal():
                raise InputError(
                    f"{visible(mapping)}, line {number} is no line `idx orig_idx orig_file`: {visible(line, 80)!r}",
                    "Give CelebA-HQ-to-CelebA-mapping.txt",
                )
            if cells[2] not in people:
                raise InputError(
                    f"{visible(identities)} has no identity for {visible(cells[2])}", "Give CelebA's identity_CelebA.txt, whole"
                )
            self._people[int(cells[0])] = people[cells[2]]

    def of(self, name: str) -> str:
        """The identity of the picture `name`. InputError if its name has no number, or the mapping none for it."""
        is_row = re.search(r"\.(parquet|arrow)/\d+$", name)  # a row's own number says nothing: the sets on the Hub are shuffled
        numbers = [] if is_row else re.findall(r"\d+$", PurePosixPath(name.rstrip(")")).stem)
        person = self._people.get(int(numbers[-1])) if numbers else None
        if person is None:
            raise InputError(
                f"{visible(self._mapping)} does not say whom {visible(name)} shows",
                "Its name must end in its number; a mask is no picture",
            )
        return person

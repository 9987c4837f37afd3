"""Lists in text files, as editors and spreadsheets write them: one entry a line, or two columns.

Names are compared as `plain` writes them, so that a list made on a Mac fits files made on Linux.
"""

from __future__ import annotations

import csv
import difflib
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from foreign.errors import InputError
from foreign.files import read_plain
from foreign.text import visible

MAX_BYTES = 256 * 2**20
SEPARATORS = ",;\t"
HEADERS = frozenset({"file", "file_name", "filename", "name", "image", "image_id", "path", "picture"})
LINE_ENDS = re.compile(r"\r\n|\n|\r")  # not str.splitlines, which also cuts at form feeds and U+2028
UTF_16, UTF_32 = (b"\xff\xfe", b"\xfe\xff"), (b"\xff\xfe\0\0", b"\0\0\xfe\xff")


def plain(name: str) -> str:
    """A name as lists and files are compared by: composed letters (NFC), no spaces at its ends, no `./` before it."""
    return unicodedata.normalize("NFC", name).strip().removeprefix("./")


def read_text(file: Path, what: str) -> str:
    """The text of `file`, with or without a byte order mark. `what` is what errors call it, such as "the identity list".

    InputError if it is missing, no plain file, over 256 MiB, or not UTF-8.
    """
    try:
        data = read_plain(file, MAX_BYTES)
    except InputError as error:
        raise InputError(f"{what}: {error.message}", error.fix) from None
    wide = "UTF-32" if data.startswith(UTF_32) else "UTF-16" if data.startswith(UTF_16) or b"\0" in data[:4096] else ""
    if wide:
        raise InputError(f"{visible(file)} is {wide} and not UTF-8", "Save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(LINE_ENDS.findall(data[: error.start].decode("latin-1"))) + 1
        raise InputError(f"{visible(file)}, line {line} is not UTF-8, perhaps Latin-1 or Windows-1252", "Save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{visible(file)}, line {len(LINE_ENDS.findall(text[: text.index(chr(0))])) + 1} has a NUL", "Save it as text")
    return text


def read_lines(file: Path, what: str) -> list[tuple[int, str]]:
    """The lines that are not empty, without spaces at their ends, each with its number from 1.

    InputError as `read_text`, and if there are none.
    """
    lines = [(number, line.strip()) for number, line in enumerate(LINE_ENDS.split(read_text(file, what)), 1) if line.strip()]
    if not lines:
        raise InputError(f"{what}: {visible(file)} is empty", "Write one entry on each line, or leave the file out")
    return lines


def read_pairs(file: Path, what: str, second: str = "identity") -> dict[str, str]:
    """A list of two columns as a dict, both as `plain` writes them. A header such as `file,identity` is left out.

    The first line decides the separator: comma, semicolon or tab, or else spaces (as CelebA's lists have them). InputError that names the
    line for another number of columns, an empty cell, an open quote or a name that comes twice.
    """
    lines = read_lines(file, what)
    separator = _separator(file, *lines[0])
    pairs: dict[str, str] = {}
    at: dict[str, int] = {}
    for number, line in lines:
        cells = [plain(cell) for cell in _cells(file, number, line, separator)]
        if number == lines[0][0] and len(cells) == 2 and cells[0].casefold() in HEADERS and cells[1].casefold() in (second, "id", "label"):
            continue
        if len(cells) != 2 or not all(cells):
            shown = f"{len(cells)} columns" if len(cells) != 2 else "an empty column"
            raise InputError(
                f"{visible(file)}, line {number} has {shown}: {visible(line, 80)!r}",
                f"Write `file,{second}` on every line, and quote commas",
            )
        name, value = cells
        if name in pairs:
            raise InputError(f"{visible(file)}, line {number} names {visible(name)!r} again, after line {at[name]}", "Keep one line for it")
        pairs[name], at[name] = value, number
    if not pairs:
        raise InputError(f"{what}: {visible(file)} has a header and nothing else", f"Write `file,{second}` on every line")
    return pairs


def read_rows(file: Path, what: str) -> list[tuple[int, list[str]]]:
    """The lines of a table that are not empty, each with its number from 1 and its cells as `plain` writes them.

    The separator is what cuts the first line into the most cells: comma, semicolon or tab, or else spaces. InputError as `read_lines`, and
    that names the line for an open quote and for two separators that cut the first line alike.
    """
    lines = read_lines(file, what)
    number, line = lines[0]
    counts = {mark: _columns(line, mark) for mark in SEPARATORS}
    most = [mark for mark in SEPARATORS if counts[mark] == max(counts.values()) > 1]
    if len(most) > 1:
        raise _several_separators(file, number, line)
    separator = (most or [" "])[0]
    return [(number, [plain(cell) for cell in _cells(file, number, line, separator)]) for number, line in lines]


def closest(name: str, known: Collection[str]) -> str:
    """ "Did you mean X?" for a name that is not among `known`; empty if nothing is close. Letters count alike in either case."""
    folded = {entry.casefold(): entry for entry in known}
    near = difflib.get_close_matches(name.strip("\"'").casefold(), list(folded)[:100_000], n=1)
    return f"Did you mean {visible(folded[near[0]])!r}?" if near else ""


def _separator(file: Path, number: int, line: str) -> str:
    """The separator of a list by its first line; a space if it has none of the others."""
    counts = {mark: _columns(line, mark) for mark in SEPARATORS}
    cutting = [mark for mark in SEPARATORS if counts[mark] > 1]
    pairs = [mark for mark in cutting if counts[mark] == 2]
    if len(cutting) > 1 and len(pairs) != 1:
        raise _several_separators(file, number, line)
    return (pairs or cutting or [" "])[0]


def _several_separators(file: Path, number: int, line: str) -> InputError:
    return InputError(
        f"{visible(file)}, line {number} has several separators: {visible(line, 80)!r}",
        'Use one throughout, and quote what has it within, as in "a;b.png",person',
    )


def _columns(line: str, separator: str) -> int:
    """How many cells a separator cuts a line into; 1 if its quotes do not fit that separator."""
    try:
        return len(list(_split(line, separator)))
    except csv.Error:
        return 1


def _cells(file: Path, number: int, line: str, separator: str) -> list[str]:
    try:
        return line.split() if separator == " " else list(_split(line, separator))
    except csv.Error as error:
        raise InputError(f"{visible(file)}, line {number}: {error}", "Close the quotes") from None


def _split(line: str, separator: str) -> Iterator[str]:
    if '"' not in line:
        return iter(line.split(separator))
    return iter(next(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True)))

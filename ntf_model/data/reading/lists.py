"""Lists in text files: two columns, in the encodings and with the separators that spreadsheets write."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ntf_model.errors import InputError

SEPARATORS = ",;\t"


def read_text(file: Path, what: str) -> str:
    """The text of a list, with or without a byte order mark. InputError for a file that is missing, no plain file, or not UTF-8."""
    try:
        if file.exists() and not file.is_file():
            raise InputError(f"{file} is no plain file", f"Give a text file for {what}")
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {what} {file}: {error.strerror}", "Check the path") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:200]:
        raise InputError(f"{file} is UTF-16", "Save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{file}, line {line}, is not UTF-8, perhaps Latin-1", "Save it as UTF-8") from None


def read_rows(file: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) for each line that is not empty: cells without spaces at their ends, as composed letters (NFC).

    The separator is a comma, a semicolon or a tab: whichever the first line has outside quotes. A line with only one cell is an error only
    where the caller makes it one.
    """
    text = read_text(file, what)
    first = next((line for line in text.splitlines() if line.strip()), "")
    counts = {mark: len(next(csv.reader([first], delimiter=mark))) for mark in SEPARATORS}
    separator = max(SEPARATORS, key=lambda mark: counts[mark])
    if sum(count > 1 for count in counts.values()) > 1 and sorted(counts.values())[-1] == sorted(counts.values())[-2]:
        raise InputError(f"{file}, line 1: it has several separators: {first[:60]!r}", "Use a comma, a semicolon or a tab throughout")
    reader = csv.reader(text.splitlines(), delimiter=separator, strict=True)
    try:
        for row in reader:
            cells = [unicodedata.normalize("NFC", cell.strip()) for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: {error}", "Close the quotes, or write one entry a line") from None


def read_pairs(file: Path, columns: Sequence[str], what: str) -> dict[str, str]:
    """A list of two columns as a dict; a header with these `columns` is left out. InputError, naming the line, for another number of
    columns, an empty cell or a name that comes twice, and for an empty list."""
    pairs: dict[str, str] = {}
    for number, (line, cells) in enumerate(read_rows(file, what)):
        if number == 0 and [cell.casefold() for cell in cells] == list(columns):
            continue
        if len(cells) != 2 or not all(cells):
            raise InputError(f"{file}, line {line}: {cells} is not {columns[0]} and {columns[1]}", "Write two columns in every line")
        if cells[0] in pairs:
            raise InputError(f"{file}, line {line}: {cells[0]!r} comes a second time", "Keep one line for it")
        pairs[cells[0]] = cells[1]
    if not pairs:
        raise InputError(f"{file} is empty", f"Write {what}: one line `{','.join(columns)}` for each")
    return pairs

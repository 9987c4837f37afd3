"""Names, keys and messages of strangers, as one line that a terminal can be shown."""

from __future__ import annotations

import re
import unicodedata

# Cc: control characters (escape sequences begin with one). Cf: invisible marks, such as those that turn the direction of writing.
# Cs, Co, Cn: halves of characters, private and unassigned ones. Zl, Zp: line and paragraph separators.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
FORMULA = frozenset("=+-@\t")  # how a cell begins that a spreadsheet runs
LONGEST = 300


# How Rust libraries end their messages: ", /home/runner/lance/src/dataset.rs:12:34", ", location: Location { file: ... }"
SOURCE_PLACE = re.compile(r"""(?:,\s*)?(?:\blocation:\s*)?Location\s*\{[^}]*\}|(?:,\s*|\s+at\s+|\s*\()?[^\s,()'"]*\w\.rs:\d+(?::\d+)?\)?""")


def without_source(text: str) -> str:
    """A message of a library without the places in the library's own code, which tell its readers nothing.

    >>> without_source("not found: a.lance, /home/runner/lance-table-1.0/src/io/commit.rs:364:26")
    'not found: a.lance'
    """
    return SOURCE_PLACE.sub("", text)


def visible(text: object, longest: int = LONGEST) -> str:
    r"""`text` on one line: what does not show as a letter is written as `\x1b` or `\u202e`, and a long text loses its middle.

    >>> visible("a\x1b[2Jb"), visible("a" * 400, 20)
    ('a\\x1b[2Jb', 'aaaaaaaa...aaaaaaaaa')
    """
    line = str(text)
    if len(line) > longest:
        kept = longest - 3
        line = line[: kept // 2] + "..." + line[len(line) - (kept - kept // 2) :]
    if line.isascii() and line.isprintable():
        return line
    return "".join(letter if unicodedata.category(letter) not in HIDDEN else _escaped(letter) for letter in line)


def escape_controls(text: str) -> str:
    r"""`text` of any length with what does not show as a letter written as `\x1b`; line ends and tabs stay.

    >>> escape_controls("a\x1b[2J\n")
    'a\\x1b[2J\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter in "\n\t" or unicodedata.category(letter) not in HIDDEN else _escaped(letter) for letter in text)


def as_csv_cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe before it. Numbers stay numbers.

    >>> as_csv_cell("=1+1"), as_csv_cell("-0.5"), as_csv_cell("-a")
    ("'=1+1", '-0.5', "'-a")
    """
    if not isinstance(value, str):
        return value
    value = value.replace("\r", "\\r")  # half a line end, which readers of CSV refuse
    if value[:1] not in FORMULA or not value:
        return value
    try:
        float(value)
        return value
    except ValueError:
        return f"'{value}"


def markdown_text(text: object) -> str:
    r"""`text` on one line of Markdown, where it begins no table cell, tag, link or code of its own.

    >>> markdown_text("a|b<img src=x>"), markdown_text("[LDM](http://evil) [0.9, 1.0]")
    ('a\\|b&lt;img src=x>', '[LDM]\\(http://evil) [0.9, 1.0]')
    """
    line = "".join(letter if _is_shown(letter) else _escaped(letter) for letter in str(text).replace("\n", " ").replace("\t", " "))
    for mark, shown in (("|", "\\|"), ("<", "&lt;"), ("](", "]\\("), ("`", "\\`")):
        line = line.replace(mark, shown)
    return line


def reason(error: BaseException) -> str:
    """What an exception of a library says, on one line of at most 200 characters; its type where it says nothing."""
    return visible(" ".join(without_source(str(error)).split()), 200) or type(error).__name__


def _is_shown(letter: str) -> bool:
    """Whether Markdown may have a letter. Private ones may: tables mark their best cells by them until they are written."""
    return unicodedata.category(letter) not in HIDDEN - {"Co"}


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")

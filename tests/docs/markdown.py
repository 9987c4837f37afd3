"""What README and docs hold that can be checked: fenced blocks, the commands in them, links, and names in backticks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("", "bash", "sh", "console")

_FENCE = re.compile(r"^( *)```([\w-]*)\s*$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_INNER_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that the block is, where its first line is a comment that names one and nothing more."""
        found = re.match(r"# ([\w./-]+\.(?:ya?ml|py|csv))\n", self.text)
        return found[1] if found else None


@dataclass(frozen=True)
class Command:
    """One line of a shell block, without its comment, its continuations joined; `words` as a shell would split it."""

    page: Path
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, without its indentation."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start, indent, language = None, "", ""
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if start is None and fence:
            start, indent, language = number + 1, fence[1], fence[2]
        elif start is not None and fence and not fence[2]:
            text = "\n".join(each.removeprefix(indent) for each in lines[start - 1 : number - 1])
            yield Block(page, start, language, text + "\n")
            start = None


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block; nothing of other blocks."""
    if block.language not in SHELL:
        return
    whole, first = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        first = first if whole else number
        whole += line.removesuffix("\\").rstrip() + " "
        if line.endswith("\\"):
            continue
        words = shlex.split(whole, comments=True)
        if words:
            yield Command(block.page, first, shlex.join(words))
        whole = ""


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _INNER_FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of all links, pictures included."""
    return _LINK.findall(prose(page))


def names(page: Path) -> list[str]:
    """What stands in backticks outside fenced blocks."""
    return _CODE.findall(prose(page))

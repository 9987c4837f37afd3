"""How large the stand-ins are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

Size = TypeVar("Size")


@dataclass(frozen=True)
class Scale:
    """`full` is the size of the releases; `small` has the same layers and names with few channels."""

    is_full: bool

    def of(self, full: Size, small: Size) -> Size:
        """The one of the two that this scale asks for."""
        return full if self.is_full else small


SCALES = {"full": Scale(True), "small": Scale(False)}

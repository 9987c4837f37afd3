"""What a generator gives for one job, before it becomes a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Output:
    """`picture` is `uint8` RGB `[H, W, 3]`, or None with the `reason` against it; `measures` go into the row."""

    picture: np.ndarray | None
    reason: str | None = None
    measures: dict[str, Any] = field(default_factory=dict)

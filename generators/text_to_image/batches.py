"""Which prompts a pipeline may make together.

Most pipelines pad every text to one length, or hand a mask of the padding to their denoiser. Some, such as CogView4 and Kandinsky 3, pad
to the longest text of a batch and do not mask it everywhere: then an image would depend on the prompts beside it. There, texts of one
length go together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from generators.errors import InputError
from generators.memory import is_out_of_memory

SHORT, LONG = "cat", "a red cat that sits beside a small dog on the wall of an old garden, early in the morning of a day in May"
STEPS = 2  # enough to see a difference
TOLERANCE = 0.02  # mean grey levels: far above what the order of a sum does, far below what other padding does

Make = Callable[[list[str], list[int]], np.ndarray]


class Companions:
    """Whether the images of one pipeline depend on the prompts beside them; found out once, when it first matters."""

    def __init__(self, pipeline: Any):
        self._tokenizers = [part for name, part in pipeline.components.items() if "tokenizer" in name and part is not None]
        self._matter: bool | None = None

    def groups(self, prompts: Sequence[str], make: Make) -> list[list[int]]:
        """The rows of `prompts` in groups that may be made together. `make` makes images of prompts and seeds, in `STEPS` steps."""
        if len(set(prompts)) > 1 and self._matter is None:
            self._matter = _depends_on_companions(make)
        if len(set(prompts)) <= 1 or not self._matter:
            return [list(range(len(prompts)))]
        by_length: dict[Any, list[int]] = {}
        for row, prompt in enumerate(prompts):
            by_length.setdefault(self._length(prompt), []).append(row)
        return list(by_length.values())

    def _length(self, prompt: str) -> Any:
        """Prompts with the same one are padded alike: their numbers of tokens, or the prompt itself where these are not known."""
        try:
            return tuple(len(tokenizer(prompt).input_ids) for tokenizer in self._tokenizers) or prompt
        except (TypeError, ValueError, AttributeError):
            return prompt


def _depends_on_companions(make: Make) -> bool:
    """Whether a prompt gives another image beside a longer one. True too if the pipeline refuses to try."""
    try:
        alike, mixed = make([SHORT, SHORT], [0, 1]), make([SHORT, LONG], [0, 1])
    except InputError as error:
        if is_out_of_memory(error):
            raise
        return True
    return bool(np.abs(alike[0].astype(float) - mixed[0]).mean() > TOLERANCE)

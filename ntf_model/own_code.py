"""Whether a run may import code of its user's. A run folder can come from a stranger, and what it names would be run on loading it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foreign.text import visible
from ntf_model.errors import InputError

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
VARIABLE = "NTF_ALLOW_ENCODER"  # names of functions with commas between them


def is_own(name: str) -> bool:
    """Whether `name` is of the form `package.module:function`."""
    return NAME.fullmatch(name) is not None


def allow(name: str) -> None:
    """Lets runs name the function `name`, in this process and those that it starts: its user has named it for a training."""
    if name not in _allowed():
        os.environ[VARIABLE] = ",".join([*_allowed(), name])


def require_allowed(settings: Mapping[str, Any], folder: Path | str) -> None:
    """Raises InputError if the settings of the run in `folder` name a function that nobody has allowed, wherever they name it."""
    for name in _functions(settings, 0):
        if name not in _allowed():
            raise InputError(
                f"{visible(folder)} stands on code of its author's, {visible(name)}, which loading it would run",
                f"Set {VARIABLE}={visible(name)} if you know that code",
            )


def _allowed() -> list[str]:
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def _functions(settings: Any, depth: int) -> Iterator[str]:
    """The functions under the keys `encoder` and `name`, at any depth that settings have."""
    if not isinstance(settings, Mapping) or depth > 8:
        return
    for key, value in settings.items():
        if key in ("encoder", "name") and isinstance(value, str) and is_own(value):
            yield value
        yield from _functions(value, depth + 1)

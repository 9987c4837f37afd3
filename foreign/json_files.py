"""JSON files, which come along with runs, checkpoints and datasets of strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foreign.errors import InputError
from foreign.files import read_plain
from foreign.text import reason, visible

MAX_BYTES = 256 * 2**20


def read_json(file: Path | str, most: int = MAX_BYTES) -> Any:
    """What a JSON file holds. Raises FileNotFoundError if it is not there, and InputError, one line that names it, if it is no plain file,
    longer than `most` bytes, not UTF-8, no JSON, nested too deep, or has a number of thousands of digits."""
    file = Path(file)
    file.stat()
    data = read_plain(file, most)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{visible(file)} is not JSON ({reason(error)})", "Write it again, or take it from a copy") from None

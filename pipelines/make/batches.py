"""The sizes of batches that were found to fit a card and to pay, kept between runs on one machine."""

from __future__ import annotations

from pathlib import Path

from foreign.json_files import read_json
from pipelines.files import cache_folder, update_cache


class RememberedBatches(dict[str, int]):
    """Sizes by generator, checkpoint, image size, precision and card. What is set is written at once; what cannot be written is only not
    remembered."""

    def __init__(self) -> None:
        super().__init__(_read())

    def __setitem__(self, key: str, size: int) -> None:
        super().__setitem__(key, size)
        update_cache(_file(), _read, lambda known: {**known, key: size})


def _file() -> Path:
    return cache_folder() / "batches.json"


def _read() -> dict[str, int]:
    try:
        known = read_json(_file())
    except (OSError, ValueError):
        return {}
    sound = known.items() if isinstance(known, dict) else ()
    return {key: size for key, size in sound if isinstance(size, int) and not isinstance(size, bool) and size > 0}

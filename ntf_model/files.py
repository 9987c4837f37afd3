"""Writing files whole or not at all."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

_UMASK = os.umask(0o022)
os.umask(_UMASK)
MODE = 0o666 & ~_UMASK  # of a new file


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Gives a partial path beside `file` for the block to write to. When the block ends, that file is synced and takes the name `file`.

    If the block raises an error, the partial file is removed, and what was at `file` before is still there. Nobody else uses the partial
    name, so two processes that write the same file do not disturb each other: the last one wins. The name keeps the suffix of `file`,
    because writers of pictures choose their format by it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".partial-{uuid.uuid4().hex}-{file.name}")
    try:
        yield partial
        partial.chmod(MODE)  # safetensors makes files that nobody else can read
        _sync(partial)
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _sync(file.parent)  # the new name too is on the disk


def write_text(file: Path, text: str) -> None:
    """Writes `text` as UTF-8."""
    with written_whole(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(file: Path, value: Any) -> None:
    """Writes JSON. What is not finite becomes null, because JSON has no other word for it."""
    write_text(file, json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")


def write_image(file: Path, pixels: np.ndarray) -> None:
    """Writes a picture, `uint8` `[H, W, 3]`, in the format that the suffix of `file` names."""
    with written_whole(file) as partial:
        Image.fromarray(pixels).save(partial)


def write_tensors(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes tensors as safetensors. No two of them may share their memory."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written_whole(file) as partial:
        save_file(on_cpu, partial, metadata={"format": "pt"})


def _sync(path: Path) -> None:
    """Waits until the file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

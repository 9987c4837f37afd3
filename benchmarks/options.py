"""What benchmarks ask of their options before they measure for an hour."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def count(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def figures_file(text: str) -> Path:
    """A JSON file that figures go to. Its folder is there, and it is new or holds a list."""
    file = Path(text)
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{file} cannot be written: {'it is a folder' if file.is_dir() else 'its folder is not there'}")
    return known_figures(text) if file.exists() else file


def known_figures(text: str) -> Path:
    """A JSON file that holds a list of figures."""
    try:
        if isinstance(json.loads(Path(text).read_text(encoding="utf-8")), list):
            return Path(text)
        said = "it holds no list"
    except OSError as error:
        said = str(error.strerror)
    except ValueError:
        said = "it is no JSON"
    raise argparse.ArgumentTypeError(f"{text} cannot be read: {said}")


def existing_folder(text: str) -> Path:
    """A folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)

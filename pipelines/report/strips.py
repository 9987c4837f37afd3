"""A chain as a strip of pictures: sources, target, every step, and what the last step changed, each with its numbers under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.images import fit
from pipelines.report import sheets
from pipelines.store import Row

SIDE = 192  # the largest side of a picture in a strip, in pixels


@dataclass(frozen=True)
class Cell:
    """One picture of a strip: what it is, its numbers, and the picture as a data URI."""

    caption: str
    numbers: tuple[str, ...]
    picture: str


def strip(row: Row, rows: Mapping[str, Row], pixels_of: Callable[[Sequence[str]], dict[str, np.ndarray]]) -> list[Cell]:
    """The strip of a final image. `rows` are the version's by id; `pixels_of` fetches pictures by id. What is not there is left out."""
    steps = [_step_id(row, number) for number in range(len(row.chain))]
    sources = [link["source"] for link in row.chain if "source" in link]
    first = [link["target"] for link in row.chain[:1] if "target" in link]
    pixels = pixels_of([*sources, *first, *steps])
    cells = [_cell(f"source {number}" if len(sources) > 1 else "source", (), pixels.get(each)) for number, each in enumerate(sources, 1)]
    cells += [_cell("target (real)", _sharpness(rows.get(each)), pixels.get(each)) for each in first]
    for link, each in zip(row.chain, steps, strict=True):
        made = rows.get(each)
        cells.append(_cell(f"{link['kind']}: {link['generator']}", numbers(made) if made else (), pixels.get(each)))
    before = steps[-2] if len(steps) > 1 else first[0] if first else None
    if before in pixels and row.id in pixels:
        side = min(*pixels[row.id].shape[:2], *pixels[before].shape[:2])
        mean = np.abs(fit(pixels[row.id], side).astype(np.int16) - fit(pixels[before], side)).mean()
        change = sheets.difference(pixels[row.id], pixels[before])
        cells.append(_cell("last step's difference x 4", (f"mean {mean:.1f} grey levels",), change))
    return [cell for cell in cells if cell is not None]


def numbers(row: Row) -> tuple[str, ...]:
    """The measures of an image as short lines."""
    lines = []
    measures = row.measures
    if "similarity" in measures:
        found = measures["similarity"]
        lines += [f"to source {found['source']:.2f}, was {found['before']:.2f}", f"to target {found['target']:.2f}"]
    if "pose_distance" in measures:
        lines.append(f"pose {measures['pose_distance']:.2f}, mouth {measures['expression_distance']:.2f}")
    if "mask_share" in measures:
        lines.append(f"crop {measures['mask_share']:.0%} of picture")
    return (*lines, *_sharpness(row))


def _sharpness(row: Row | None) -> tuple[str, ...]:
    return (f"sharpness {row.measures['sharpness']:,.0f}",) if row and "sharpness" in row.measures else ()


def _step_id(row: Row, number: int) -> str:
    """The id of the image that a step of this row's chain made, at the attempt that succeeded."""
    attempt = row.chain[number]["attempt"]
    return f"{row.group}/{number}" + (f".{attempt}" if attempt else "")


def _cell(caption: str, lines: tuple[str, ...], pixels: np.ndarray | None) -> Cell | None:
    return None if pixels is None else Cell(caption, lines, sheets.data_uri(fit(pixels, min(SIDE, *pixels.shape[:2]))))

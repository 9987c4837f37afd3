"""A chain as a strip of pictures: sources, target, every step, and what the last step changed, each with its numbers under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.images import fit
from pipelines.report import sheets
from pipelines.report.album import Album, Picture
from pipelines.report.source import MASK
from pipelines.store import Row

SIDE = 160  # the largest side of a picture in a strip, in pixels


@dataclass(frozen=True)
class Cell:
    """One picture of a strip: what it is, its numbers, its id in the store (none for a difference), and the picture."""

    caption: str
    numbers: tuple[str, ...]
    id: str | None
    picture: Picture


def ids_of(row: Row) -> list[str]:
    """The ids of all pictures that the strip of a final image shows."""
    return [*_sources(row), *_target(row), *_steps(row)]


def strip(row: Row, rows: Mapping[str, Row], pixels: Mapping[str, np.ndarray], album: Album) -> list[Cell]:
    """The strip of a final image. `rows` are the version's by id, `pixels` the pictures by id. What is not there is left out."""
    sources, target, steps = _sources(row), _target(row), _steps(row)
    shown: list[tuple[str, tuple[str, ...], str]] = []
    shown += [(f"source {number}" if len(sources) > 1 else "source", (), name) for number, name in enumerate(sources, 1)]
    shown += [("target (real)", _sharpness(rows.get(name)), name) for name in target]
    for link, name in zip(row.chain, steps, strict=True):
        shown_row = rows.get(name)
        shown.append((f"{link['kind']}: {link['generator']}", numbers(shown_row) if shown_row else (), name))
    cells = [Cell(caption, lines, name, album.add(pixels[name], SIDE)) for caption, lines, name in shown if name in pixels]
    if f"{row.id}{MASK}" in pixels:
        share = row.measures.get("mask_share")
        lines = (f"{share:.0%} of picture",) if share is not None else ()
        cells.append(Cell("mask", lines, None, album.add(pixels[f"{row.id}{MASK}"], SIDE)))
    before = steps[-2] if len(steps) > 1 else target[0] if target else None
    if before is not None and before in pixels and row.id in pixels:
        side = min(*pixels[row.id].shape[:2], *pixels[before].shape[:2])
        mean = np.abs(fit(pixels[row.id], side).astype(np.int16) - fit(pixels[before], side)).mean()
        change = album.add(sheets.difference(pixels[row.id], pixels[before]), SIDE)
        cells.append(Cell("last step's difference x 4", (f"mean {mean:.1f} grey levels",), None, change))
    return cells


def numbers(row: Row) -> tuple[str, ...]:
    """The measures of an image as short lines."""
    lines = []
    measures = row.measures
    if "similarity" in measures:
        similarity = measures["similarity"]
        lines += [f"to source {similarity['source']:.2f}, was {similarity['before']:.2f}", f"to target {similarity['target']:.2f}"]
    if "pose_distance" in measures:
        lines.append(f"pose {measures['pose_distance']:.2f}, mouth {measures['expression_distance']:.2f}")
    if "mask_share" in measures:
        lines.append(f"{'crop' if 'crop' in measures else 'reworked'} {measures['mask_share']:.0%} of picture")
    return (*lines, *_sharpness(row))


def _sharpness(row: Row | None) -> tuple[str, ...]:
    return (f"sharpness {row.measures['sharpness']:,.0f}",) if row and "sharpness" in row.measures else ()


def _sources(row: Row) -> list[str]:
    return [link["source"] for link in row.chain if "source" in link]


def _target(row: Row) -> list[str]:
    return [link["target"] for link in row.chain[:1] if "target" in link]


def _steps(row: Row) -> list[str]:
    """The ids of the images that the steps of this row's chain made, each at the attempt that succeeded."""
    first, _, rest = row.group.partition("/")  # a chain that begins at another subset's image is of that one's group
    names = [f"{link.get('subset', first)}/{rest}/{number}" for number, link in enumerate(row.chain)]
    return [name + (f".{link['attempt']}" if link["attempt"] else "") for name, link in zip(names, row.chain, strict=True)]

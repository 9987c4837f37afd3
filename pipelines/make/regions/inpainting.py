"""Inpainting inside a chain: the image so far, or a real one, reworked inside a mask. Outside it the original stands, to the pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from generators.base import Generator, InpaintRequest
from pipelines.images import fit
from pipelines.make.output import Output, judged
from pipelines.make.regions.masks import resized
from pipelines.manifest.chains import ChainStep

CHUNK = 32  # pictures that are held in memory at once

Open = Callable[[], np.ndarray]
NO_MASK = "the face parser finds nothing to mask"


@dataclass(frozen=True)
class Painting:
    """An image to be reworked: its seed, what opens it (`uint8` RGB `[H, W, 3]`), and what gives the mask of its middle square at its
    stored size (bool `[S, S]`; None if there is nothing to mask)."""

    seed: int
    original: Open
    mask: Callable[[np.ndarray], np.ndarray | None]


def inpaint(generator: Generator, paintings: Sequence[Painting], step: ChainStep, size: int | None) -> Iterator[Output]:
    """One image for each painting, in order, `size` pixels a side (by default the generator's), with its mask.

    `keep: exact` puts the original back outside the mask: the pixels that the picture itself has at that size. `keep: pipeline` leaves the
    model's own. An empty mask asks for the whole picture anew: nothing is put back, the stored mask is full, and `empty_mask` is among the
    measures. Measures: `mask_share`, the part of the picture that is masked.
    """
    side = size or generator.resolution
    for start in range(0, len(paintings), CHUNK):
        chunk = paintings[start : start + CHUNK]
        pictures = [painting.original() for painting in chunk]
        originals = [fit(picture, side) for picture in pictures]
        masks = [painting.mask(original) for painting, original in zip(chunk, originals, strict=True)]
        ready = [place for place, mask in enumerate(masks) if mask is not None]
        outputs = dict(zip(ready, _reworked(generator, chunk, pictures, masks, ready, step), strict=True)) if ready else {}
        for place, (original, mask) in enumerate(zip(originals, masks, strict=True)):
            output = outputs.get(place, Output(None, NO_MASK))
            yield output if mask is None or output.picture is None else _kept(output, original, mask, step.keep)


def _reworked(
    generator: Generator,
    chunk: Sequence[Painting],
    pictures: Sequence[np.ndarray],
    masks: Sequence[np.ndarray | None],
    ready: Sequence[int],
    step: ChainStep,
) -> list[Output]:
    resolution = generator.resolution
    inside = np.stack([resized(mask, resolution) for mask in masks if mask is not None])
    targets = np.stack([fit(pictures[place], resolution) for place in ready])
    request = InpaintRequest([chunk[place].seed for place in ready], targets, inside)
    return list(judged(generator.run(request, **step.parameters)))


def _kept(output: Output, original: np.ndarray, mask: np.ndarray, keep: str) -> Output:
    assert output.picture is not None
    painted = fit(output.picture, len(original))
    if not mask.any():  # the whole image is the model's
        return replace(output, picture=painted, measures={**output.measures, "mask_share": 1.0, "empty_mask": True}, mask=~mask)
    picture = np.where(mask[..., None], painted, original) if keep == "exact" else painted
    measures = {**output.measures, "mask_share": round(float(mask.mean()), 4)}
    return replace(output, picture=picture, measures=measures, mask=mask)

"""Bringing an edited image nearer to the real one that it was made from: its JPEG compression, its pixels, its frequencies (DDA)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from generators.seeding import numpy_rng
from pipelines.images import fill, fit
from pipelines.make.output import Output
from pipelines.make.past import compressed_as, quality_of, read_history
from pipelines.manifest.chains import Blend, ChainStep
from pipelines.plan.reals import RealImage


def aligned(output: Output, step: ChainStep, seed: int, original: Callable[[], np.ndarray], real: RealImage) -> Output:
    """An output of an edit after `real_jpeg` and `mix` of its step; a rejection as it is.

    `original` opens what the step was given of `real` (`uint8` `[H, W, 3]`). All draws are the image's own. The measure `alignment` says
    what was done: `jpeg`, the quality that the real's tables are nearest to, and `real_in_pixels` and `real_in_frequency`, shares.
    """
    if output.picture is None:
        return output
    rng = numpy_rng(seed, "alignment")
    chances, places = rng.random(3), rng.random(2)  # all of them, so that one setting moves no draw of another
    pixels = output.picture
    done: dict[str, Any] = {}
    if step.real_jpeg is not None and chances[0] < step.real_jpeg and real.file is not None:
        history = read_history(real.file)
        whole = pixels.shape[:2] == (history.height, history.width)
        pixels = compressed_as(pixels, history, output.cut_at or ((0, 0) if whole else history.begins))
        done |= {"jpeg": quality_of(history.tables[0])} if history.tables else {}
    blends = (step.mix.pixels, step.mix.frequency) if step.mix else (None, None)
    shares = [_share(blend, chance, place) for blend, chance, place in zip(blends, chances[1:], places, strict=True)]
    if any(share is not None for share in shares):
        target = _as_large(original(), pixels.shape)
        if shares[0] is not None:
            pixels = mix_pixels(pixels, target, shares[0])
            done["real_in_pixels"] = round(shares[0], 4)
        if shares[1] is not None:
            assert step.mix is not None and step.mix.frequency is not None
            pixels = mix_frequencies(pixels, target, shares[1], step.mix.frequency.above)
            done["real_in_frequency"] = round(shares[1], 4)
    return replace(output, picture=pixels, measures={**output.measures, "alignment": done})


def mix_pixels(fake: np.ndarray, real: np.ndarray, share: float) -> np.ndarray:
    """`share` of the real and the rest of the fake, both `uint8` `[H, W, 3]`."""
    return _to_bytes(share * real.astype(np.float64) + (1 - share) * fake)


def mix_frequencies(fake: np.ndarray, real: np.ndarray, share: float, above: float) -> np.ndarray:
    """As `mix_pixels`, of the DCT coefficients whose frequency is at least `above`.

    The frequency of a coefficient is its distance from the mean, with both directions counted from 0 to 1, divided by the largest.
    """
    from scipy.fft import dctn, idctn  # scipy takes a while to load, and few chains align frequencies

    height, width = fake.shape[:2]
    down, across = np.arange(height) / max(1, height - 1), np.arange(width) / max(1, width - 1)
    weight = share * (np.hypot(down[:, None], across[None, :]) / np.sqrt(2) >= above)
    difference = dctn(real.astype(np.float64) - fake, axes=(0, 1), norm="ortho")
    return _to_bytes(fake + idctn(weight[..., None] * difference, axes=(0, 1), norm="ortho"))


def _share(blend: Blend | None, chance: float, place: float) -> float | None:
    """The share of the real in this image; None if it is not mixed."""
    if blend is None or chance >= blend.chance:
        return None
    low, high = blend.real
    return float(low + (high - low) * place)


def _as_large(real: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The real image at the size of what was made of it."""
    if real.shape[:2] == shape[:2]:
        return real
    return fit(real, shape[0]) if shape[0] == shape[1] else fill(real, shape[0], shape[1])


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)

"""Features of the pixels that compression and resampling leave, whatever the picture shows.

They look at the luma of the middle of a picture, cut so that the 8x8 grid of its first pixel stays where it is.
"""

from __future__ import annotations

import numpy as np

from pipelines.audit.families import BLOCKINESS, HISTORY, PHASE, RESAMPLING, TRACE_FAMILIES, Family

SIDE = 512  # pixels of the middle that are looked at
LUMA = np.array([0.299, 0.587, 0.114])
MODES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2))  # low frequencies: enough values above 0 to see a comb
STEPS = np.arange(2, 25)  # quantisation steps that are looked for
BINS = 24  # of the spectrum of second differences


def read_traces(pixels: np.ndarray) -> dict[str, Family]:
    """The features of `uint8` RGB `[H, W, 3]` by family. A picture of less than 16 px a side has none."""
    luma = _middle(pixels).astype(np.float64) @ LUMA
    if min(luma.shape) < 16:
        return {family: {} for family in TRACE_FAMILIES}
    profiles = [_grid_profile(luma), _grid_profile(luma.T)]
    return {
        PHASE: {f"{axis}{place}": float(profile[place]) for axis, profile in zip("xy", profiles, strict=True) for place in range(8)},
        BLOCKINESS: _blockiness(profiles),
        HISTORY: _jpeg_history(luma),
        RESAMPLING: _resampling(luma),
    }


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = (max(0, side - SIDE) // 16 * 8 for side in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


def _grid_profile(luma: np.ndarray) -> np.ndarray:
    """How strong the steps between neighbouring columns are, by the column's place in the 8x8 grid, `[8]`; 1 is the average.

    A step is measured against its two neighbours, so that edges of the picture's own, which are wider, count little (Fan and de Queiroz
    2003 compare the same differences within and across blocks).
    """
    steps = np.abs(np.diff(luma, axis=1))
    sharp = np.abs(luma[:, :-3] - 3 * luma[:, 1:-2] + 3 * luma[:, 2:-1] - luma[:, 3:])  # third differences: steps, not slopes
    scale = sharp.mean() + 0.05 * steps.mean() + 1e-3
    limited = np.minimum(sharp, 4 * scale)
    columns = limited.mean(0) / limited.mean().clip(1e-9)
    places = (np.arange(len(columns)) + 1) % 8  # of the column before the step: 7 where the grid begins with the picture
    return np.array([columns[places == place].mean() if np.any(places == place) else 1.0 for place in range(8)])


def _blockiness(profiles: list[np.ndarray]) -> Family:
    """How far the strongest place of the grid stands out, and how much the places differ, wherever the grid begins."""
    ordered = [np.sort(profile) for profile in profiles]
    turned = np.mean([np.abs(np.fft.rfft(profile))[1:] for profile in profiles], axis=0)
    return {
        "peak": float(np.mean([places[-1] - np.median(places) for places in ordered])),
        "second": float(np.mean([places[-1] - places[-2] for places in ordered])),
        "spread": float(np.mean([places.std() for places in ordered])),
        **{f"turn{number + 1}": float(value) for number, value in enumerate(turned)},
    }


def _jpeg_history(luma: np.ndarray) -> Family:
    """How much the DCT coefficients of the 8x8 blocks keep to the multiples of a step, for each step, and their first digits.

    Once quantised, coefficients stand in a comb, whose characteristic function is near 1 at the comb's frequency; quantised twice, in a
    comb with gaps and doubles (Lukas and Fridrich 2003; Fu, Shi and Su 2007 for the digits).
    """
    from scipy.fft import dctn  # a quarter of a second, which commands that audit nothing do not wait for

    height, width = (side // 8 * 8 for side in luma.shape)
    blocks = luma[:height, :width].reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8) - 128
    coefficients = dctn(blocks, axes=(1, 2), norm="ortho")
    features: Family = {}
    combs = np.empty((len(MODES), len(STEPS)))
    for number, (row, column) in enumerate(MODES):
        values = coefficients[:, row, column]
        values = values[np.abs(values) > 1.5]  # zeros are multiples of everything
        angles = np.exp(2j * np.pi * np.outer(values, 1 / STEPS)) if len(values) else np.zeros((1, len(STEPS)))
        # Without a comb the mean of N unit numbers is about 1 / sqrt(N) long: that is taken off, so that flat pictures do not look combed.
        combs[number] = np.maximum(0, np.abs(angles.mean(0)) ** 2 - 1 / max(1, len(values)))
        features |= {f"best{row}{column}": float(STEPS[combs[number, 1:].argmax() + 1]), f"comb{row}{column}": float(combs[number].max())}
    features |= {f"step{step}": float(value) for step, value in zip(STEPS, combs.mean(0), strict=True)}
    large = np.abs(coefficients[:, 1:5, 1:5]).ravel()
    large = large[large >= 1]
    digits = (
        np.bincount((large / 10 ** np.floor(np.log10(large))).astype(np.int64).clip(1, 9), minlength=10)[1:] if len(large) else np.zeros(9)
    )
    return features | {f"digit{number + 1}": float(share) for number, share in enumerate(digits / max(1, digits.sum()))}


def _resampling(luma: np.ndarray) -> Family:
    """The peaks in the spectrum of the second differences, by frequency.

    Interpolated pixels are foreseeable from their neighbours in a pattern that repeats with the resampling's ratio, so the second
    difference's mean over the rows swings with it (Gallagher 2005; Mahdian and Saic 2008).
    """
    spectra = []
    for axis in (0, 1):
        second = np.abs(np.diff(luma, n=2, axis=axis))
        signal = np.log(second.mean(1 - axis) + 0.1)
        size = len(signal)
        smooth = np.convolve(np.pad(signal, 4, mode="reflect"), np.full(9, 1 / 9), mode="valid")[:size]
        spectrum = np.abs(np.fft.rfft((signal - smooth) * np.hanning(size)))[1:]
        spectra.append(spectrum / (np.median(spectrum) + 1e-9))
    # A picture has few frequencies, so a bin may hold one alone, or share it with the next.
    bins = [np.maximum.reduceat(spectrum, (np.arange(BINS) * len(spectrum) // BINS).clip(max=len(spectrum) - 1)) for spectrum in spectra]
    peaks = np.log1p((bins[0] + bins[1]) / 2)
    features: Family = {f"at{number}": float(value) for number, value in enumerate(peaks)}
    return features | {"peak": float(peaks[BINS // 4 :].max()), "where": float(peaks.argmax())}

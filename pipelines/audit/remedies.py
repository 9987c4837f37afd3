"""What to do about each family of features that tells fake from real."""

from __future__ import annotations

from pipelines.audit.families import (
    APPEARANCE,
    BLOCKINESS,
    CHROMA,
    CONTENT,
    DIMENSIONS,
    ENCODER,
    FORMAT,
    HISTORY,
    METADATA,
    PHASE,
    QUANTISATION,
    RESAMPLING,
    SIZE,
    TOGETHER,
)

_ENCODE = "write both with one encoder: `ntf import` brings any folder to PNG, and every build does so for reals and fakes alike"
REMEDIES = {
    DIMENSIONS: (
        "bring both to one size: `ntf import` and a build with `size: 256` or `size: {crop: 256}`; with `size: native`, "
        "`parity: {sizes: reals}` gives fakes the dimensions of reals"
    ),
    FORMAT: _ENCODE,
    QUANTISATION: f"{_ENCODE}; the pixels still tell it then, unless the fakes get the reals' past (`parity: {{jpeg: reals}}`)",
    CHROMA: f"{_ENCODE}; the pixels still tell it then, unless the fakes get the reals' past (`parity: {{jpeg: reals}}`)",
    METADATA: "write both without metadata: `ntf import` takes it off, and exports for training leave it off (no --provenance)",
    ENCODER: _ENCODE,
    SIZE: _ENCODE,
    TOGETHER: _ENCODE,
    PHASE: "the 8x8 grid lies differently: crop both alike, or give the fakes the reals' JPEG history (`parity: {jpeg: reals}`)",
    BLOCKINESS: (
        "one side was compressed harder: give the fakes the reals' JPEG history (`parity: {jpeg: reals}`), or both one more compression "
        "(`parity: {recompress: {quality: [60, 95]}}`)"
    ),
    HISTORY: "one side was JPEG before, or was so twice: give the fakes the reals' JPEG history (`parity: {jpeg: reals}`)",
    RESAMPLING: (
        "real and fake came from different sizes: bring the reals to the generators' size first, or, where the fakes are the larger ones, "
        "take them through the reals' sizes (`parity: {sizes: reals}`)"
    ),
    APPEARANCE: (
        "the pictures of one side look different as a whole. Take reals of the same kind as the fakes (colour, light, framing), leave out "
        "the odd ones, or make fakes from the very reals (`parity: {reconstruct: ...}`)"
    ),
    CONTENT: (
        "the pictures of one side are smoother, so they take fewer bytes: no shortcut of the files, but of the content; reconstructions of "
        "the same reals (`parity: {reconstruct: ...}`) make fakes with the reals' content"
    ),
}

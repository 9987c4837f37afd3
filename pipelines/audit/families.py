"""The families of features of an image file, by name. A feature is a number, a word, or None where the format has no such thing."""

from __future__ import annotations

Value = float | str | None
Family = dict[str, Value]

DIMENSIONS, FORMAT, QUANTISATION, CHROMA = "dimensions", "format", "quantisation tables", "chroma subsampling"
METADATA, ENCODER, SIZE = "metadata", "encoder", "size beyond the pixels"
FILE_FAMILIES = (DIMENSIONS, FORMAT, QUANTISATION, CHROMA, METADATA, ENCODER, SIZE)
TOGETHER = "all of these together"

PHASE, BLOCKINESS, HISTORY, RESAMPLING = "8x8 grid phase", "8x8 blockiness", "JPEG history", "resampling"
TRACE_FAMILIES = (PHASE, BLOCKINESS, HISTORY, RESAMPLING)
CONTENT = "file size (content)"
APPEARANCE = "appearance (content)"


def joined(families: dict[str, list[Family]]) -> list[Family]:
    """All families of each file as one."""
    return [
        {f"{name}: {key}": value for name, family in zip(families, row, strict=True) for key, value in family.items()}
        for row in zip(*families.values(), strict=True)
    ]

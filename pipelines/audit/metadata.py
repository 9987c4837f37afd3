"""Which kinds of metadata a file carries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.audit.families import Family

KINDS = ("jfif", "exif", "xmp", "icc", "photoshop", "adobe", "comment", "text", "time", "density", "other")


def metadata(sizes: Mapping[str, int], trailing: int) -> Family:
    """The features of metadata, from the bytes of each kind in the file and the bytes that stand after the image's end."""
    present: Family = {kind: float(kind in sizes) for kind in KINDS}
    return {**present, "kilobytes": sum(sizes.values()) / 1024, "trailing": float(np.log1p(trailing))}

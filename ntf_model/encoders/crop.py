"""How large a part of a picture an encoder is shown."""

from __future__ import annotations

import numpy as np

from ntf_model.data.data import DetectionData
from ntf_model.encoders.encoder import Encoder

LOOKED_AT = 64  # pictures of the training split
ANY_SIZE = 224  # for an encoder that was not made for a size
SMALLEST = 64  # pixels to which small pictures are enlarged for an encoder that was trained on large ones


def fit_to_pictures(encoder: Encoder, data: DetectionData, image_size: int | None = None, upscale: int | None = None) -> Encoder:
    """Sets the encoder's `crop` and `upscale` for the pictures of `data`, in place, and returns it.

    Without `image_size` the crop is what the encoder was made for, but no larger than the pictures: their median shorter side. Without
    `upscale`, crops below 64 px are enlarged for an encoder that was made for 64 px or more. A transformer's crop is a multiple of its
    patches.
    """
    crop = image_size or min(encoder.input_size or ANY_SIZE, _shorter_side(data))
    if upscale is None:
        upscale = max(1, SMALLEST // crop) if encoder.input_size and encoder.input_size >= SMALLEST else 1
    if image_size is None and upscale == 1:
        crop = max(encoder.patch, crop // encoder.patch * encoder.patch)
    encoder.crop, encoder.upscale = crop, upscale
    return encoder


def _shorter_side(data: DetectionData) -> int:
    """The median over a few pictures."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(LOOKED_AT, len(data))).astype(int))
    return int(np.median([min(data.dataset[int(row)].image.shape[:2]) for row in rows]))

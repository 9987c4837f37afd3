"""Where an `inpaint` step reworks an image, as the manifest says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from generators.numbers import StrictNumbers

Shape = Literal["box", "ellipse", "brush"]
FacePart = Literal["face", "skin", "brows", "eyes", "glasses", "ears", "nose", "mouth", "neck", "hair"]
Share = Annotated[float, Field(gt=0, le=1)]


class MaskSpec(StrictNumbers):
    """One of: `shape`, drawn by the image's own seed, covering a part of the picture between the two of `area`; `face`, parts of the face
    as the parser under `faces` sees them; `folder`, with a picture for each real image, under the same name, white where it is reworked.

    `empty` is the part of the images that get an empty mask: they are made anew as a whole, and nothing of the original is put back.

    In YAML `mask: box` is short for `mask: {shape: box}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: Shape | None = None
    area: tuple[Share, Share] = (0.05, 0.3)
    face: tuple[FacePart, ...] | None = Field(None, min_length=1)
    folder: Path | None = None
    empty: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"shape": data}
        if isinstance(data, Mapping) and isinstance(data.get("face"), str):
            return {**data, "face": [data["face"]]}
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> MaskSpec:
        if sum(value is not None for value in (self.shape, self.face, self.folder)) != 1:
            raise ValueError("a mask has exactly one of shape, face, folder")
        if self.area[0] > self.area[1]:
            raise ValueError("the smaller part of `area` comes first")
        return self

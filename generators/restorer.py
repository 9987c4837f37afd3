"""What Real-ESRGAN, GFPGAN and CodeFormer share: an edit of the whole picture, or of each of its faces with paste-back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from generators import base
from generators.base import EditInput, Generator
from generators.checkpoints import Checkpoint, Contents
from generators.errors import InputError
from generators.faces.parsing import RestorationParser
from generators.faces.restoring import FACEXLIB, PasteStyle, cut_face, face_matrix, paste_faces, prepared
from generators.images import require_size, to_float

Region = Literal["face", "picture"]
Mask = Literal["parsing", "square"]


class RestorationParameters(base.Parameters):
    region: Region = "face"  # each face of the picture, cut out and pasted back; or the whole picture
    upscale: int = Field(1, ge=1, le=4, description="faces: how many times larger the picture becomes under them")
    mask: Mask = "parsing"  # faces: what is pasted is the face that the component `parsing` sees, or the whole square

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> RestorationParameters:
        if self.region == "picture":
            for name in ("upscale", "mask"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is a setting of `region: face`; leave it out with `region: picture`")
        return self


class Restorer(Generator):
    """A generator that edits. A method gives `_edit` for faces of `resolution` pixels, or for whole pictures."""

    family = "GAN"
    kinds = ("edit",)
    components: ClassVar[tuple[str, ...]] = ("parsing",)
    paste_style: ClassVar[PasteStyle] = FACEXLIB
    device: torch.device
    checkpoint: Checkpoint

    class Parameters(RestorationParameters):
        pass

    @classmethod
    def edit_input(cls, settings: Any) -> EditInput:
        return "faces" if settings.region == "face" else "square"

    @cached_property
    def parser(self) -> RestorationParser:
        """The component `parsing`, loaded when it is first needed. InputError if there is none."""
        if "parsing" not in self.checkpoint.components:
            raise InputError(
                f"{self.name}: {self.checkpoint.path.name} has no component 'parsing', and `mask: parsing` needs one",
                "Name a parsing_parsenet.pth under `components`, or set `mask: square`",
            )
        return RestorationParser.load(self.checkpoint.component("parsing"), self.device)

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """The picture `uint8` `[H, W, 3]` in which faces are to be looked for."""
        return prepared(picture, self.paste_style)

    def cut(self, picture: np.ndarray, landmarks: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The aligned faces `[resolution, resolution, 3]` and their matrices."""
        matrices = [face_matrix(points, self.resolution) for points in landmarks]
        return [cut_face(picture, matrix, self.resolution) for matrix in matrices], matrices

    def parsed(self, faces: np.ndarray, settings: RestorationParameters) -> list[np.ndarray] | None:
        """The label map of each of the restored `faces` `[K, S, S, 3]`; None where what is pasted is the whole square."""
        return list(self.parser.labels(faces)) if settings.mask == "parsing" and len(faces) else None

    def paste(
        self,
        picture: np.ndarray,
        faces: np.ndarray,
        matrices: Sequence[np.ndarray],
        labels: Sequence[np.ndarray] | None,
        settings: RestorationParameters,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The picture with the restored `faces` `[K, S, S, 3]` in it, and the mask float32 `[H, W]` of what they cover. `labels` are what
        `parsed` gave. No network is run, so that any thread may paste."""
        return paste_faces(picture, list(faces), matrices, upscale=settings.upscale, labels=labels, style=self.paste_style)


class FaceRestorer(Restorer):
    """A restorer whose network takes faces of one size, `network.size`, in [-1, 1]."""

    def __init__(self, network: Any, checkpoint: Checkpoint, device: str | torch.device, dtype: torch.dtype):
        self.network = network.eval().requires_grad_(False).to(device, dtype)
        self.checkpoint = checkpoint
        self.device, self.dtype = torch.device(device), dtype

    @property
    def resolution(self) -> int:
        return self.network.size

    def _network_input(self, images: np.ndarray) -> torch.Tensor:
        """`uint8` `[N, S, S, 3]` as the network takes them. InputError if they have another size."""
        require_size(images, self.resolution, self.name)
        return to_float(images, device=self.device).to(self.dtype)


def released_state(contents: Contents) -> Mapping[str, torch.Tensor]:
    """The network's tensors in a released file: the averaged ones (`params_ema`) if it has them, else `params`, else all."""
    for prefix in ("params_ema.", "params."):
        state = contents.under(prefix)
        if state:
            return state
    return contents.tensors

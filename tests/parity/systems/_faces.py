"""Cutting faces out and pasting them back, and face parsing: the cases that GFPGAN and CodeFormer share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from generators.base import Generator
from generators.checkpoints import Checkpoint
from generators.faces.parsing import RestorationParser
from generators.faces.restoring import PasteStyle, cut_face, enlarged_inverse, face_matrix, paste_faces
from tests.parity.cases import Case

Restorer = TypeVar("Restorer", bound=Generator)


def check_kind(case: Case, style: PasteStyle, check_network: Callable[[Case], None]) -> None:
    """Checks a case of cutting and pasting in this `style`, of parsing, or of the network itself."""
    kind = case.config["kind"]
    if kind == "align_and_paste":
        check_pasting(case, style)
    elif kind == "parsing":
        check_parsing(case)
    else:
        check_network(case)


def from_released_form(method: type[Restorer], case: Case, options: dict[str, Any]) -> Restorer:
    """The method, loaded from a file as it is released: the case's weights under the key that the case names."""
    with tempfile.TemporaryDirectory() as folder:
        file, key = Path(folder) / f"{method.name}.pth", case.config["checkpoint_key"]
        torch.save({key: case.weights(key)}, file)
        return cast(Restorer, method.load(Checkpoint(file, options)))


def check_pasting(case: Case, style: PasteStyle) -> None:
    """Every run's transforms, crops, result, mask, and what the parser is given."""
    size = case.config["face_size"]
    for run in case.config["runs"]:
        picture = rgb(case.arrays[run["image"]])
        matrices, crops = [], []
        for landmarks, matrix, crop, inverse in zip(run["landmarks"], run["M"], run["crop"], run["inverse"], strict=True):
            got = face_matrix(case.arrays[landmarks], size)
            case.compare(matrix, got)
            case.compare(inverse, enlarged_inverse(got, run["upscale"]))
            face = cut_face(picture, got, size)
            stored_whole = crop in case.arrays
            case.compare(crop, rgb(face) if stored_whole else rgb(face).transpose(2, 0, 1)[None].astype(np.float32))
            matrices.append(got)
            crops.append(face)
        restored = [np.clip(np.round(crop * 0.75 + 70), 0, 255).astype(np.uint8) for crop in crops]
        labels = [case.arrays[run["labels"]]] * len(crops) if run["use_parse"] else None
        background = rgb(case.arrays[run["background"]]) if "background" in run else None
        settings = {"upscale": run["upscale"], "labels": labels, "style": style}
        result, mask = paste_faces(picture, restored, matrices, background=background, **settings)
        case.compare(run["out"], rgb(result))
        white = [np.full_like(face, 255) for face in restored]
        on_black = paste_faces(np.zeros_like(picture), white, matrices, **settings)[0]
        case.compare(run["mask255"], on_black[..., 0])
        assert abs(255 * mask.mean() - on_black.mean()) < 2, "the returned mask is not the one that was used"
        if "parse_input" in run:
            case.compare(run["parse_input"], RestorationParser.pixels(restored[0][None]))


def check_parsing(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parsing_parsenet.pth"
        torch.save(case.weights("state_dict"), file)
        network = RestorationParser.load(Checkpoint(file)).network
    for run in case.config["runs"]:
        x = case.tensor(run["x"])
        with torch.inference_mode():
            logits = network(x)
            case.compare(run["mask"], logits)
            case.compare(run["image"], network.out_img_conv(network.features(x)))
        case.compare(run["labels"], logits.argmax(1)[0].to(torch.uint8))


def rgb(image: np.ndarray) -> np.ndarray:
    """BGR to RGB, or back."""
    return np.ascontiguousarray(image[..., ::-1])

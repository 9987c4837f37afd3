"""SimSwap's generator, its ArcFace, alignment and paste-back against the official code."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from generators.checkpoints import Checkpoint
from generators.faces.align import align, estimate_transform
from generators.faces.masks import face_mask
from generators.faces.pasteback import blend_crop, paste_back
from generators.images import imagenet_normalise
from generators.methods.simswap import SimSwap
from generators.networks.faces.arcface import ArcFace, identity_vectors, load_arcface
from tests.parity.cases import Case
from tests.parity.systems._preprocessing import check_by_key

GREY_LEVEL = 1.0


def upsampled(case: Case, size: int) -> torch.Tensor:
    """The image that a case stores as a few coarse pixels."""
    return F.interpolate(case.tensor("image_seed8"), (size, size), mode="bilinear", align_corners=False)


def check_generator(case: Case) -> None:
    """A state dict in a plain torch file, as releases are; the form is known from the name of the official module."""
    config = case.config
    with tempfile.TemporaryDirectory() as folder:
        state = case.weights("G")
        identity_size = config["latent_size"]
        torch.save(state, Path(folder) / "latest_net_G.pth")
        arcface = ArcFace((1, 1, 1, 1), embedding_size=identity_size)  # only to complete the checkpoint: the case gives the identity
        torch.save(arcface.state_dict(), Path(folder) / "arcface.pth")
        parts = {"arcface": Checkpoint(Path(folder) / "arcface.pth")}
        options = {"form": Path(config["module"]).stem, "size": config["size"]}
        swapper = SimSwap.load(Checkpoint(Path(folder) / "latest_net_G.pth", options, parts))
    assert len(swapper.network.BottleNeck) == config["n_blocks"]
    with torch.inference_mode():
        case.compare("out", swapper.network(upsampled(case, config["size"]), case.tensor("id")))


def check_arcface(case: Case) -> None:
    """The identity network from {'model': state under 'module.'}, the layout of the older official file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arcface_checkpoint.tar"
        torch.save({"model": {f"module.{key}": value for key, value in case.weights("netArc").items()}, "epoch": 1}, path)
        network = load_arcface(Checkpoint(path)).fold()
    pixels = upsampled(case, 224)
    small = F.interpolate(imagenet_normalise(pixels), (network.input_size, network.input_size), mode="nearest")
    if "net_input_crop" in case.arrays:
        stored = case.arrays["net_input_crop"]
        assert np.abs(small[:, :, : stored.shape[2], : stored.shape[3]].numpy() - stored).max() < 1e-5
    with torch.inference_mode():
        case.compare("feature", network(small))
        case.compare("latent_id", identity_vectors(network, pixels))


def check_pasteback(case: Case) -> None:
    """Alignment, soft mask, blend and paste-back, each stage within one grey level of the official one."""
    arrays, constants = case.arrays, case.facts["constants"]
    landmarks, whole = arrays["landmarks5"], arrays["whole_bgr_uint8"][..., ::-1]
    size = arrays["aligned_crop_bgr_uint8"].shape[0]
    for name in [name for name in arrays if name.startswith("M_")]:
        _, side, mode = name.split("_")
        case.compare(name, estimate_transform(landmarks, "ffhq" if mode == "ffhq" else "simswap", int(side)), atol=1e-4)
    mode = next(name.split("_")[2] for name in arrays if name.startswith(f"M_{size}_"))
    crop, matrix = align(whole, landmarks, "ffhq" if mode == "ffhq" else "simswap", size)
    near(case, "aligned_crop_bgr_uint8", crop[..., ::-1])
    target = crop.astype(np.float32) / 255
    swapped = target * 0.5 + 0.25  # the case's stand-in for the generator's output
    settings: dict[str, Any] = {
        "threshold": constants["white_threshold"], "erode": constants["erode_kernel"][0], "blur": constants["blur"][0]
    }  # fmt: skip
    near(case, "result_nomask_bgr_uint8", paste_back(whole, swapped, matrix, **settings)[..., ::-1])
    erosion = constants["soft_erosion"]
    mask = face_mask(
        arrays["label_map_512_uint8"][None],
        size,
        classes=[*constants["face_ids_no_neck"], constants["mouth_id"]],
        min_sum=constants["min_mask_sum"],
        kernel_size=erosion["kernel_size"],
        threshold=erosion["threshold"],
        iterations=erosion["iterations"],
    )[0]
    case.compare(f"soft_mask_{size}", mask, atol=1 / 255)
    blended = blend_crop(swapped, target, mask)
    near(case, "result_mask_bgr_uint8", paste_back(whole, blended, matrix, **settings)[..., ::-1])


def near(case: Case, name: str, got: np.ndarray) -> None:
    case.compare(name, got, atol=GREY_LEVEL)


check = check_by_key({"module": check_generator, "layers": check_arcface}, otherwise=check_pasteback)

"""Every stand-in that the paper's manifest needs, as a person would have it in a folder of downloads.

    python -m benchmarks.rehearsal.stand_ins FOLDER full stylegan2-celebahq-256 ...

writes those that are named to FOLDER. `data` among them are pictures and captions in place of the real sources.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rehearsal.scale import SCALES, Scale

Write = Callable[[Path, Scale], None]


@dataclass(frozen=True)
class StandIn:
    """One checkpoint: what it is called in the folder of downloads, and what writes it there, as `module.function` with arguments."""

    title: str
    form: str
    write: str
    arguments: tuple[Any, ...] = ()


NVIDIA, MODULES, FOLDER = "NVIDIA pickle", "pickle of ordinary modules", "diffusers folder"
STAND_INS = {  # the largest last
    "progan-celebahq-1024": StandIn("pggan_celebahq1024.pth", "torch zip, genforce", "gans.progan"),
    "stylegan2-celebahq-256": StandIn("stylegan2-celebahq-256x256.pkl", NVIDIA, "gans.stylegan2", (256, 32768)),
    "stylegan2-ffhq-1024": StandIn("stylegan2-ffhq-1024x1024 (1).pkl", f"{NVIDIA}, named by a browser", "gans.stylegan2", (1024, 32768)),
    "stylegan2-lsun-church-256": StandIn("stylegan2-church-config-f.pkl", "TensorFlow pickle", "gans.stylegan2_tensorflow"),
    "projected-gan-ffhq-256": StandIn("ffhq.pkl", MODULES, "gans.projected_gan"),
    "projected-gan-lsun-church-256": StandIn("church.pkl", MODULES, "gans.projected_gan"),
    "projected-gan-landscape-256": StandIn("landscape.pkl", MODULES, "gans.projected_gan"),
    "diff-stylegan2-ffhq-1024": StandIn("diffusion-stylegan2-ffhq.pkl", NVIDIA, "gans.stylegan2", (1024, 32768)),
    "diff-stylegan2-lsun-church-256": StandIn("diffusion-stylegan2-lsun-church.pkl", NVIDIA, "gans.stylegan2", (256, 16384)),
    "simswap-224": StandIn("checkpoints.zip", "torch zip, in a zip of several", "faces.simswap"),
    "simswap-arcface": StandIn("arcface_checkpoint.tar", "torch zip, whole module", "faces.arcface"),
    "ddpm-celebahq-256": StandIn("ddpm-celebahq-256", f"{FOLDER}, no sub-folders", "diffusion.ddpm"),
    "ddpm-church-256": StandIn("models--google--ddpm-church-256", f"{FOLDER} in the Hub's cache: links", "stand_ins.cached_ddpm"),
    "diffface-arcface": StandIn("Arcface.tar", "torch zip, module in a DataParallel", "faces.arcface_of_diffface"),
    "diffface-face-parser": StandIn("FaceParser.pth", "torch zip, BiSeNet", "faces.face_parser"),
    "diffface-gaze": StandIn("GazeEstimator.pt", "torch zip, beside its optimiser", "faces.gaze"),
    "ldm-celebahq-256": StandIn("ldm-celebahq-256", f"{FOLDER}, .bin alone", "diffusion.ldm_uncond"),
    "vqgan-celebahq-256": StandIn("celebahq_transformer.zip", "Lightning, in a zip of its folder", "stand_ins.vqgan_zip"),
    "diffface-256": StandIn("my download.pt", "torch zip, guided-diffusion, renamed", "faces.diffface"),
    "ldm-text2im-256": StandIn("ldm-text2im-large-256", f"{FOLDER}, with a text model", "diffusion.ldm_text"),
    "stable-diffusion-v1-4": StandIn("stable-diffusion-v1-4", f"{FOLDER}, fp16 beside float32", "diffusion.stable_diffusion"),
}
DETECTOR = "stand-in-detector.onnx"
VARIANTS = 6  # of each photograph of a face or a scene: mirrored, darker; each stands for another person
COMMIT = "3f4b" + "0" * 36


def write_stand_in(name: str, folder: Path, scale: Scale) -> None:
    """Writes one stand-in to `folder`, the same bytes whenever it is asked for."""
    import importlib

    import torch

    torch.manual_seed(zlib.crc32(name.encode()))
    stand_in = STAND_INS[name]
    module, _, function = stand_in.write.partition(".")
    write: Write = getattr(importlib.import_module(f"benchmarks.rehearsal.{module}"), function)
    with torch.no_grad():
        partial(write, folder / stand_in.title, scale, *stand_in.arguments)()


def vqgan_zip(path: Path, scale: Scale) -> None:
    """The folder of the release as koofr hands it out: one archive, not compressed."""
    from benchmarks.rehearsal.gans import vqgan

    inside = path.with_suffix(".ckpt")
    vqgan(inside, scale)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inside, "2021-04-23T18-11-19_celebahq_transformer/checkpoints/last.ckpt")
        archive.writestr("2021-04-23T18-11-19_celebahq_transformer/configs/2021-04-23T18-11-19-project.yaml", "model: {}\n")
    inside.unlink()


def cached_ddpm(folder: Path, scale: Scale) -> None:
    """A repository in the Hub's cache: `blobs`, and links to them under `snapshots/COMMIT`."""
    from benchmarks.rehearsal.diffusion import ddpm

    snapshot, blobs = folder / "snapshots" / COMMIT, folder / "blobs"
    ddpm(snapshot, scale)
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.iterdir())):
        blob = blobs / f"{number:040x}"
        file.rename(blob)
        file.symlink_to(Path("../../blobs") / blob.name)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)


def write_data(folder: Path, scale: Scale) -> None:
    """Pictures in place of the paper's real sources, captions, and the stand-in detector, in the folder that `ntf` is run from."""
    import cv2
    import numpy as np

    from benchmarks.rehearsal.faces import detector
    from generators.demo.pictures import held_out_pictures, training_pictures

    faces = [*training_pictures("faces"), *held_out_pictures("faces")]
    photos = [*training_pictures("photos"), *held_out_pictures("photos")]
    sources = {"celeba-hq/real": faces, "ffhq": faces[::-1], "lsun-church": photos, "lhq": photos, "laion": photos}
    for name, pictures in sources.items():
        place = folder / "data" / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(VARIANTS * len(pictures)):
            variant, picture = divmod(number, len(pictures))
            large = cv2.resize(pictures[picture].image, (256, 256), interpolation=cv2.INTER_CUBIC)
            large = np.rint(255 * (large / 255.0) ** (1 + 0.1 * (variant // 2))).astype(np.uint8)
            cv2.imwrite(str(place / f"{number:05}.png"), (large[:, ::-1] if variant % 2 else large)[..., ::-1])
    people = "".join(f"{number:05}.png,{number}\n" for number in range(VARIANTS * len(faces)))
    (folder / "data" / "celeba-hq" / "real-identities.csv").write_text(people)
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "captions.txt").write_text("\n".join(f"a photograph of {what}" for what in ("a dog", "a city", "a lake")))
    detector(folder / DETECTOR, scale)


def main(folder: Path, scale: Scale, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name == "data":
            write_data(folder, scale)
        else:
            write_stand_in(name, folder, scale)


if __name__ == "__main__":
    main(Path(sys.argv[1]), SCALES[sys.argv[2]], sys.argv[3:])

"""What deliveries and crops cost, and what learning from deliveries gives.

    python benchmarks/delivery.py speed                        # each recipe, and the codecs alone, against one plain JPEG round
    python benchmarks/delivery.py crop                         # bringing in a 1,024 px JPEG by a crop, against the resize
    python benchmarks/delivery.py training FOLDER --seeds 3    # a detector trained with deliveries against one without, clean to hard

Times are processor time of one thread, interleaved, and given as ratios; seconds say little on a machine that others use. FOLDER has the
splits train, validation and test.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package
    sys.path[0] = str(ROOT)

from benchmarks.audit import photographs  # noqa: E402
from ntf_model.data.data import from_folders, single_split  # noqa: E402
from ntf_model.judging.deliveries import CLEAN, on_deliveries  # noqa: E402
from ntf_model.judging.evaluate import Evaluation, evaluate  # noqa: E402
from ntf_model.registry import get_detector  # noqa: E402
from pipelines.delivery.deliver import deliver  # noqa: E402
from pipelines.delivery.folder import deliver_folder  # noqa: E402
from pipelines.delivery.steps import AVIF_SPEED  # noqa: E402
from pipelines.images import decode, encode  # noqa: E402
from pipelines.make.framing import frame_of  # noqa: E402
from pipelines.manifest.deliveries import Step, expanded, recipes  # noqa: E402
from pipelines.manifest.schema import Codec  # noqa: E402
from pipelines.manifest.sizes import Crop  # noqa: E402

SIDE = 1024
TAUGHT = {"web": ("feed",), "hard": ("feed", "messenger", "screenshot")}


def megapixel(number: int) -> np.ndarray:
    """A photograph at 1,024 px a side, `uint8` RGB `[1024, 1024, 3]`: windows of the larger ones, enlarged, with noise as of a camera."""
    picture = photographs()[number % len(photographs())]
    side = min(picture.shape[:2])
    large = cv2.resize(picture[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(number).normal(0, 4, large.shape)
    return (large + noise).clip(0, 255).astype(np.uint8)


def timed(acts: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each act in each round, one after the other in every round, so that a busy machine is busy for all."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(-1, rounds):
        for name, act in acts.items():
            start = time.thread_time()
            act(number)
            if number >= 0:
                seconds[name].append(time.thread_time() - start)
    return seconds


def delivered(pictures: Sequence[np.ndarray | bytes], steps: tuple[Step, ...], number: int) -> bytes:
    return deliver(pictures[number % len(pictures)], steps, number).data


def shrunk(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The pictures with as many pixels as `site` leaves on average: the mean square of a factor from 0.6 to 1 is 0.653."""
    return [resampled(picture, 0.653**0.5) for picture in pictures]


def resampled(picture: np.ndarray, factor: float) -> np.ndarray:
    side = round(SIDE * factor)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def written(form: str, pictures: Sequence[np.ndarray], number: int, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pictures[number % len(pictures)]).save(stream, form, **options)
    return stream.getvalue()


def jpegs(pictures: Sequence[np.ndarray], number: int) -> bytes:
    """What no form of the three deliveries can do without: their JPEGs, at about their mean qualities, and no step between them."""
    pixels, data = pictures[number % len(pictures)], b""
    for quality in (83, 74, 85):
        pixels = pixels if not data else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # type: ignore[assignment]
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return data


def speed(rounds: int) -> None:
    cv2.setNumThreads(1)
    pictures = [megapixel(number) for number in range(6)]
    plain = Codec(format="jpeg", quality=85)
    acts: dict[str, Callable[[int], Any]] = {"one JPEG round": lambda number: decode(encode(pictures[number % 6], plain), "a picture")}
    chains = {name: (name,) for name in recipes()} | {"hard: " + ", ".join(TAUGHT["hard"]): TAUGHT["hard"]}
    for name, chain in chains.items():
        acts[name] = partial(delivered, pictures, expanded(chain))
    stored = [encode(picture, Codec()) for picture in pictures]  # as a build has them
    acts["`site` without its resize, of pictures of its mean size"] = partial(delivered, shrunk(pictures), recipes()["site"].steps[1:])
    for quality in (65, 90):
        acts[f"the encoder of WebP alone, quality {quality}"] = partial(written, "WEBP", pictures, quality=quality, method=0)
    for quality in (55, 80):
        options = {"quality": quality, "speed": AVIF_SPEED, "max_threads": 1, "subsampling": "4:2:0"}
        acts[f"the encoder of AVIF alone, quality {quality}"] = partial(written, "AVIF", pictures, **options)
    acts["Lanczos alone, to 0.8 of the side"] = lambda number: resampled(pictures[number % 6], 0.8)
    acts["the JPEGs of hard alone: three encoded, two decoded"] = partial(jpegs, pictures)
    acts["reading the stored PNG"] = lambda number: decode(stored[number % 6], "a picture")
    acts["reading it and stripping its bytes"] = partial(delivered, stored, expanded(("stripped",)))
    seconds = timed(acts, rounds)
    unit = statistics.mean(seconds["one JPEG round"])
    print("| recipe | times one JPEG round | pictures a second and core |\n|---|---|---|")
    for name, own in seconds.items():
        print(f"| {name} | {statistics.mean(own) / unit:.2f} | {1 / statistics.mean(own):.0f} |", flush=True)


def crop(rounds: int) -> None:
    cv2.setNumThreads(1)
    files = [encode(megapixel(number), Codec(format="jpeg", quality=92)) for number in range(6)]

    def brought(number: int, size: Any) -> bytes:
        pixels = decode(files[number % 6], "a picture")
        return encode(frame_of(pixels.shape, size, number).of(pixels), Codec())

    sizes: dict[str, Any] = {
        "size: 256": 256,
        "size: {crop: 256}": Crop(crop=256),
        "size: {crop: 256, at: seed}": Crop(crop=256, at="seed"),
    }
    seconds = timed({name: lambda number, size=size: brought(number, size) for name, size in sizes.items()}, rounds)
    unit = statistics.mean(seconds["size: 256"])
    print("| a JPEG of 1,024 px, decoded, brought to size and encoded | times the resize |\n|---|---|")
    for name, own in seconds.items():
        print(f"| {name} | {statistics.mean(own) / unit:.2f} |", flush=True)


def training(folder: Path, seeds: int, name: str, settings: dict[str, Any], draws: int) -> None:
    """AUROC and accuracy at the threshold of clean validation, on clean, web and hard test pictures, without and with deliveries.

    With them, the training split has `draws` of each, and what the detector chooses it chooses on validation that has one of each.
    """
    clean_splits = from_folders(folder)
    print("| seed | trained | AUROC clean | web | hard | ACC clean | web | hard |\n|---|---|---|---|---|---|---|---|")
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as place:
            work = Path(place)
            taught = shutil.copytree(folder, work / "taught")
            for delivery, chain in TAUGHT.items():
                steps = expanded(chain)
                for draw in range(draws):
                    beside(folder / "train", taught / "train", work / f"train-{delivery}-{draw}", steps, seed + 2000 * draw)
                beside(folder / "validation", taught / "validation", work / f"validation-{delivery}", steps, 500 + seed)
                deliver_folder(folder / "test", work / f"test-{delivery}", steps, 1000 + seed)
            tests = {delivery: single_split(work / f"test-{delivery}") for delivery in TAUGHT}
            for title, data in (("clean", folder), ("clean, web and hard", taught)):
                splits = from_folders(data)
                detector = get_detector(name).fit(splits, get_detector(name).preset("demo", seed=seed, **settings))
                clean = evaluate(detector, splits.test, clean_splits.validation, bootstrap=0)
                results = {CLEAN: clean, **on_deliveries(detector, clean, tests)}
                figures = [f"{_mean(result, key):.3f}" for key in ("auroc", "acc_fixed") for result in results.values()]
                print(f"| {seed} | {title} | {' | '.join(figures)} |", flush=True)


def beside(split: Path, taught: Path, done: Path, steps: tuple[Step, ...], seed: int) -> None:
    """Puts the delivered pictures of `split` beside those in `taught`, under names of their own. `done` is a folder for them."""
    deliver_folder(split, done, steps, seed)
    for file in [file for file in done.rglob("*.*") if file.parent.name in ("real", "fake")]:
        inside = file.relative_to(done)
        shutil.copy(file, taught / inside.with_name(f"{inside.stem}-{done.name}{inside.suffix}"))


def _mean(result: Evaluation, key: str) -> float:
    return result.overall["unweighted"].measures[key].value or float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "crop", "training"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--detector", default="probe")
    parser.add_argument("--size", type=int, help="of the detector's pictures")
    parser.add_argument("--draws", type=int, default=1, help="of each delivery, in training")
    chosen = parser.parse_args()
    if chosen.what == "training":
        if chosen.folder is None:
            parser.error("training needs a folder")
        training(chosen.folder, chosen.seeds, chosen.detector, {"size": chosen.size} if chosen.size else {}, chosen.draws)
    else:
        {"speed": speed, "crop": crop}[chosen.what](chosen.rounds)


if __name__ == "__main__":
    main()

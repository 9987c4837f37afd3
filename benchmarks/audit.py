"""What the audit catches: biases planted into clean pictures, the same after their remedies, and false alarms over clean draws.

    python benchmarks/audit.py biases              # the table of docs/audit.md
    python benchmarks/audit.py clean --draws 200   # the share of clean datasets that fail, by size
    python benchmarks/audit.py pixels --draws 200  # the same for the families of the pixels, which do not decide the gate

Pictures are crops of photographs that come with scikit-image and scikit-learn; real and fake are drawn alike, and differ in nothing but
what is planted.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package
    sys.path[0] = str(ROOT)

from pipelines.audit import Audit, audit_folder, families  # noqa: E402
from pipelines.audit.appearance import read_appearance  # noqa: E402
from pipelines.audit.audit import judge  # noqa: E402
from pipelines.audit.classify import design  # noqa: E402
from pipelines.audit.traces import read_traces  # noqa: E402
from pipelines.images import decode, encode, fit  # noqa: E402
from pipelines.importing.importing import import_images  # noqa: E402
from pipelines.make.past import read_history, with_history  # noqa: E402
from pipelines.manifest.schema import Codec, Parity  # noqa: E402

SIDE = 128
Write = Callable[[np.ndarray, np.random.Generator], tuple[bytes, str]]


@dataclass(frozen=True)
class Bias:
    """How reals and fakes are written (a crop of `side` pixels to bytes and a suffix), and the family that has to notice."""

    name: str
    family: str
    real: Write
    fake: Write
    side: int = SIDE


@cache
def photographs() -> list[np.ndarray]:
    """Colour photographs, `uint8` `[H, W, 3]`."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    return [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), *load_sample_images().images]


def crop(rng: np.random.Generator, side: int) -> np.ndarray:
    picture = photographs()[rng.integers(len(photographs()))]
    top, left = (rng.integers(0, length - side + 1) for length in picture.shape[:2])
    cut = picture[top : top + side, left : left + side]
    return np.ascontiguousarray(cut[:, ::-1] if rng.random() < 0.5 else cut)


def plant(bias: Bias, folder: Path, count: int, seed: int = 0) -> Path:
    """`count` reals and as many fakes with the bias, in `folder/real` and `folder/fake`."""
    rng = np.random.default_rng(seed)
    for label, write in (("real", bias.real), ("fake", bias.fake)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            data, suffix = write(crop(rng, bias.side), rng)
            (folder / label / f"{label}{number}{suffix}").write_bytes(data)
    return folder


def our_png(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    return encode(pixels, Codec()), ".png"


def pillow(suffix: str = ".png", share: float = 1.0, **options: object) -> Write:
    """A file written by Pillow with `options`, or without them for all but `share` of the pictures. A pair of numbers is drawn from."""

    def write(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
        chosen = dict(options) if rng.random() < share else {"quality": options["quality"]} if "quality" in options else {}
        if isinstance(chosen.get("quality"), tuple):
            chosen["quality"] = int(rng.integers(*chosen["quality"]))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG" if suffix == ".png" else "JPEG", **chosen)  # type: ignore[arg-type]
        return stream.getvalue(), suffix

    return write


def exif(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    metadata = Image.Exif()
    metadata[0x0110] = "camera"
    return pillow(".jpg", quality=90, exif=metadata, share=0.5)(pixels, rng)


def text(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", "generator")
    return pillow(pnginfo=note)(pixels, rng)


def any_size(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    height, width = rng.integers(SIDE - 16, SIDE + 17, 2)
    return our_png(np.ascontiguousarray(pixels[:height, :width]), rng)


def one_size(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    return our_png(np.ascontiguousarray(pixels[:SIDE, :SIDE]), rng)


def through_jpeg(*qualities: int, cut: tuple[int, int] = (0, 0)) -> Write:
    """A PNG whose pixels were JPEG before, once for each quality, and were cut afterwards."""

    def write(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
        for quality in qualities:
            pixels = np.asarray(Image.open(io.BytesIO(pillow(".jpg", quality=quality)(pixels, rng)[0])))
        return our_png(np.ascontiguousarray(pixels[cut[0] : cut[0] + SIDE, cut[1] : cut[1] + SIDE]), rng)

    return write


def resized(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    larger = Image.fromarray(pixels).resize((SIDE * 4 // 3, SIDE * 4 // 3), Image.Resampling.BICUBIC)
    return our_png(np.ascontiguousarray(np.asarray(larger)[:SIDE, :SIDE]), rng)


def smoothed(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    small = Image.fromarray(pixels).resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS)
    return our_png(np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), rng)


BIASES = {
    bias.name: bias
    for bias in (
        Bias("format: JPEG fakes among PNG reals", families.FORMAT, our_png, pillow(".jpg", quality=95)),
        Bias("ending: .jpeg against .jpg", families.FORMAT, pillow(".jpg", quality=90), pillow(".jpeg", quality=90)),
        Bias("quality: 92 against 88", families.QUANTISATION, pillow(".jpg", quality=92), pillow(".jpg", quality=88)),
        Bias(
            "quality: drawn from 70-95 against 80-95",
            families.QUANTISATION,
            pillow(".jpg", quality=(70, 96)),
            pillow(".jpg", quality=(80, 96)),
        ),
        Bias(
            "chroma: half of the fakes 4:4:4", families.CHROMA, pillow(".jpg", quality=90), pillow(".jpg", 0.5, quality=90, subsampling=0)
        ),
        Bias("metadata: EXIF in half of the reals", families.METADATA, exif, pillow(".jpg", quality=90)),
        Bias("metadata: a text in the fakes' PNG", families.METADATA, pillow(), text),
        Bias("encoder: PNG level 1 against 6", families.ENCODER, pillow(compress_level=1), pillow(compress_level=6)),
        Bias("encoder: PNG level 6 against 9", families.ENCODER, pillow(compress_level=6), pillow(compress_level=9)),
        Bias("encoder: OpenCV against Pillow", families.ENCODER, our_png, pillow(compress_level=1)),
        Bias("encoder: optimised Huffman tables", families.ENCODER, pillow(".jpg", quality=90), pillow(".jpg", quality=90, optimize=True)),
        Bias("PNG stored against packed", families.SIZE, pillow(compress_level=1), pillow(compress_level=0)),
        Bias("dimensions: fakes all of one size", families.DIMENSIONS, any_size, one_size, SIDE + 16),
        Bias("8x8 grid phase: cut by (3, 5)", families.PHASE, through_jpeg(80), through_jpeg(80, cut=(3, 5)), SIDE + 8),
        Bias("blockiness: quality 50 against 85", families.BLOCKINESS, through_jpeg(85), through_jpeg(50)),
        Bias("JPEG before: reals only", families.HISTORY, through_jpeg(85), our_png),
        Bias("double JPEG: 60 then 80, against 80", families.HISTORY, through_jpeg(80), through_jpeg(60, 80)),
        Bias("resampling: fakes enlarged by 4/3", families.RESAMPLING, our_png, resized),
        Bias("no shortcut: fakes smoother", families.CONTENT, our_png, smoothed),
    )
}


def verdict_on(audit: Audit, family: str) -> tuple[str, bool]:
    """AUC and interval of a family as text, and whether it was noticed."""
    verdict = next(verdict for verdict in (*audit.container, *audit.traces) if verdict.name == family)
    return f"{verdict.auc:.2f} [{verdict.low:.2f}, {verdict.high:.2f}]", not verdict.passed


def imported(folder: Path, output: Path) -> Path:
    """The remedy of everything in a container: both classes brought to PNG by `ntf import`."""
    for label in ("real", "fake"):
        import_images(folder / label, output, label, "for a benchmark", "made by it")  # type: ignore[arg-type]
    return output


def jpeg_reals(folder: Path, count: int, side: int, remedied: bool, seed: int = 0) -> Path:
    """Reals that were JPEG files of `side` px, and fakes that never were, all brought to `SIDE` px; with the reals' past if `remedied`.

    Both show as much of a photograph, so that nothing but the past differs.
    """
    rng = np.random.default_rng(seed)
    parity = Parity(jpeg="reals", sizes="reals")
    for label in ("real", "fake"):
        (folder / label).mkdir(parents=True)
    for number in range(count):
        file = folder / f"{number}.jpg"
        file.write_bytes(pillow(".jpg", quality=(60, 90))(crop(rng, side), rng)[0])
        real, fake = np.asarray(Image.open(file)), fit(crop(rng, side), SIDE)
        past = read_history(file)
        for label, pixels in (("real", real), ("fake", with_history(fake, past, parity) if remedied else fake)):
            (folder / label / f"{label}{number}.png").write_bytes(encode(fit(pixels, SIDE), Codec()))
    return folder


def table(count: int) -> None:
    print(f"| bias ({count} reals, {count} fakes) | family | AUC [interval] | noticed | build |\n|---|---|---|---|---|")
    for name, bias in BIASES.items():
        with tempfile.TemporaryDirectory() as folder:
            result = audit_folder(plant(bias, Path(folder), count))
            text, noticed = verdict_on(result, bias.family)
            print(
                f"| {name} | {bias.family} | {text} | {'yes' if noticed else 'no'} | {'passes' if result.gate.passed else 'fails'} |",
                flush=True,
            )
    for name in ("format: JPEG fakes among PNG reals", "metadata: EXIF in half of the reals", "encoder: PNG level 1 against 6"):
        with tempfile.TemporaryDirectory() as folder:
            result = audit_folder(imported(plant(BIASES[name], Path(folder) / "as-found", count), Path(folder) / "imported"))
            text, noticed = verdict_on(result, BIASES[name].family)
            said = "yes" if noticed else "no"
            print(
                f"| {name}, after `ntf import` | {BIASES[name].family} | {text} | {said} | {'passes' if result.gate.passed else 'fails'} |"
            )
    for side in (SIDE, 2 * SIDE):
        for remedied in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                result = audit_folder(jpeg_reals(Path(folder), count, side, remedied))
                for family in (families.HISTORY, families.RESAMPLING):
                    text, noticed = verdict_on(result, family)
                    what = f"reals were JPEG of {side} px{', after `parity: {jpeg: reals, sizes: reals}`' if remedied else ''}"
                    print(
                        f"| {what} | {family} | {text} | {'yes' if noticed else 'no'} | {'passes' if result.gate.passed else 'fails'} |",
                        flush=True,
                    )


def anything(pixels: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    """A file as they come: of any format, quality, chroma, encoder, size, with and without metadata."""
    height, width = rng.integers(48, 65, 2)
    pixels = np.ascontiguousarray(pixels[:height, :width])
    writers: tuple[Write, ...] = (
        our_png,
        pillow(compress_level=int(rng.choice([1, 6, 9]))),
        text,
        pillow(".jpg", quality=(60, 96)),
        pillow(".jpeg", 0.5, quality=(60, 96), subsampling=0, optimize=True),
        exif,
    )
    return writers[rng.integers(len(writers))](pixels, rng)


def clean(first: int, draws: int, counts: list[int]) -> None:
    """Each draw is a new dataset; files are as they come, and nothing in them depends on the label."""
    print("| reals and fakes | draws | gate failed | a trace noticed | seconds each |\n|---|---|---|---|---|")
    for count in counts:
        failed, noticed, start = 0, 0, time.perf_counter()
        for seed in range(first, first + draws):
            with tempfile.TemporaryDirectory() as folder:
                result = audit_folder(plant(Bias("none", "", anything, anything, 64), Path(folder), count, seed))
                failed += not result.gate.passed
                noticed += any(not verdict.passed for verdict in result.traces)
        seconds = (time.perf_counter() - start) / draws
        print(f"| {count} and {count} | {draws} | {failed / draws:.1%} | {noticed / draws:.1%} | {seconds:.1f} |", flush=True)


def any_past(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels as they come, `[SIDE, SIDE, 3]` from `[2 * SIDE, 2 * SIDE, 3]`: compressed or not, once or twice, cut off the grid, made
    smaller, larger or smoother."""
    kind = int(rng.integers(6))
    if kind == 0:
        side = int(rng.integers(SIDE, 2 * SIDE + 1))
        return fit(pixels[:side, :side], SIDE)
    if kind == 1:
        side = int(rng.integers(SIDE // 2, SIDE))
        return fit(pixels[:side, :side], SIDE)
    cut = tuple(int(place) for place in rng.integers(0, 8, 2))
    qualities = [int(quality) for quality in rng.integers(50, 96, min(2, max(0, kind - 2)))]
    data, _ = through_jpeg(*qualities, cut=(cut[0], cut[1]))(np.ascontiguousarray(pixels[: SIDE + 8, : SIDE + 8]), rng)
    cleaned = decode(data, "a crop")
    return decode(smoothed(cleaned, rng)[0], "a crop") if kind == 5 else cleaned


def pixel_alarms(first: int, draws: int, count: int = 40, pool: int = 240) -> tuple[int, dict[str, int]]:
    """In how many of `draws` a family of the pixels tells `count` pictures from as many others though nothing tells them apart, and which.

    Each draw takes pictures of a pool of `any_past`, and labels that are drawn for them.
    """
    rng = np.random.default_rng(0)
    pictures = [any_past(crop(rng, 2 * SIDE), rng) for _ in range(pool)]
    read = [{**read_traces(pixels), families.APPEARANCE: read_appearance(pixels)} for pixels in pictures]
    sizes = [len(encode(pixels, Codec())) for pixels in pictures]
    alarms, told = 0, dict.fromkeys([*read[0], families.CONTENT], 0)
    for seed in range(first, first + draws):
        chosen = np.random.default_rng(seed).permutation(pool)[: 2 * count]
        setup = design(np.repeat([0, 1], count), [str(number) for number in chosen])
        assert setup is not None
        rows = {name: [read[number][name] for number in chosen] for name in read[0]}
        rows[families.CONTENT] = [{"bytes": float(sizes[number]), "bytes_per_pixel": sizes[number] / SIDE**2} for number in chosen]
        failed = [verdict.name for verdict in judge(rows, setup) if not verdict.passed]
        alarms += bool(failed)
        for name in failed:
            told[name] += 1
    return alarms, told


def clean_pixels(first: int, draws: int, counts: list[int]) -> None:
    """The false alarms of the families of the pixels, together and one by one."""
    print("| images of each class | draws | draws in which a family of the pixels told | by family |\n|---|---|---|---|")
    for count in counts:
        alarms, told = pixel_alarms(first, draws, count, 6 * count)
        listed = ", ".join(f"{name} {number}" for name, number in told.items() if number) or "none"
        print(f"| {count} | {draws} | {alarms} ({alarms / draws:.1%}) | {listed} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("biases", "clean", "pixels"))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first draw")
    parser.add_argument("--counts", type=int, nargs="+", help="pictures of each class")
    chosen = parser.parse_args()
    if chosen.what == "biases":
        table((chosen.counts or [120])[0])
    elif chosen.what == "clean":
        clean(chosen.first, chosen.draws, chosen.counts or [40, 120])
    else:
        clean_pixels(chosen.first, chosen.draws, chosen.counts or [40])


if __name__ == "__main__":
    main()

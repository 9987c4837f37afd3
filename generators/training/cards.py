"""A model card in Markdown, beside the checkpoint that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from generators.checkpoints import read, sha256_of
from generators.demo.pictures import Picture
from generators.files import write_text
from generators.training.loop import Run


def write_card(
    run: Run, pictures: Sequence[Picture], *, name: str, seed: int, size: int, collection: str | None, facts: Mapping[str, str]
) -> None:
    """Writes, beside the checkpoint, what it was trained on and how, its last losses, `facts` that were measured on it, and the
    command that remakes it. `collection` is None when the pictures are the user's own."""
    numbers = sum(tensor.numel() for tensor in read(run.output).tensors.values())
    last = ", ".join(f"{key} {value:.4g}" for key, value in run.losses[-1].items() if key != "step") if run.losses else "none"
    source = f"--seed {seed} --steps {run.steps}" if collection else f"--folder FOLDER --seed {seed} --steps {run.steps} --size {size}"
    rows = {
        "generator": name,
        "image size": f"{size} x {size} px",
        "numbers in the file": f"{numbers:,} (half precision)",
        "sha256": sha256_of(run.output),
        "steps": f"{run.steps:,}",
        "seed": str(seed),
        "training time": f"{run.seconds / 60:.0f} minutes of one CPU thread" if run.seconds >= 60 else f"{run.seconds:.0f} seconds",
        "last losses": last,
        **facts,
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    write_text(
        run.output.with_suffix(".md"),
        f"# {run.output.name}\n\n{_INTRODUCTION}\n\n|  |  |\n|---|---|\n{table}\n\n## To make it again\n\n"
        f"```\nntf train-generator {name} {run.output.name} {source}\n```\n\n"
        f"The same command takes a stopped run up where it was last saved. The weights agree bit for bit on one machine with one thread\n"
        f"count; elsewhere the rounding of floating-point sums differs, and so do they, a little.\n\n"
        f"## Training data\n\n{_data(pictures, collection)}\n",
    )


_INTRODUCTION = """A small generator, trained by `generators/training/` of this project so that its demo and its tests run offline. It is
small, not fake: its images come from learned weights. It says nothing about how well the full-size method works."""


def _data(pictures: Sequence[Picture], collection: str | None) -> str:
    if collection is None:
        return f"{len(pictures)} pictures of the user's own."
    sources: dict[tuple[str, str], list[str]] = {(picture.licence, picture.attribution): [] for picture in pictures}
    for picture in pictures:
        names = sources[picture.licence, picture.attribution]
        if picture.photograph not in names:
            names.append(picture.photograph)
    lines = [
        f"- {names[0] if len(names) == 1 else f'{len(names)} photographs of lfw_subset'}: {attribution}; {licence}"
        for (licence, attribution), names in sources.items()
    ]
    return (
        f'{len(pictures)} pictures, the training part of the collection "{collection}" in `generators/demo/pictures.py`, seen\n'
        "as random crops, mirrored half of the time. The held-out part was not used; the demo's real images come from it.\n\n"
        + "\n".join(lines)
    )

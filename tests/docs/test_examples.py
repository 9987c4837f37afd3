"""The worked examples of docs: each is in its page word for word, and does what the page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flows.judging import evaluate_detector, train_detector
from generators import registry
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from ntf_model.data.data import from_folders
from ntf_model.registry import detector_names, load_detector
from pipelines.build.build import run_build
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store
from tests.docs.examples import loaded
from tests.docs.markdown import ROOT, blocks
from tests.support import write_manifest

EXAMPLES = {"adding-a-generator.md": "consistency.py", "adding-a-detector.md": "spectrum.py"}


@pytest.mark.parametrize(("page", "example"), EXAMPLES.items())
def test_the_page_has_the_example_word_for_word(page: str, example: str) -> None:
    text = (ROOT / "docs" / "examples" / example).read_text(encoding="utf-8")
    assert text in [block.text for block in blocks(ROOT / "docs" / page)]
    assert len(text.splitlines()) < 100


def consistency_folder(folder: Path, classes: int | None) -> Path:
    """A consistency model with a few thousand random weights, as diffusers saves it."""
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        num_class_embeds=classes,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    ConsistencyModelPipeline(unet, CMStochasticIterativeScheduler()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("classes", [None, 3])
def test_the_generator(classes: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("consistency.py", "generators.methods.consistency", monkeypatch)
    assert "consistency" in registry.names()
    folder = consistency_folder(tmp_path / "weights", classes)
    generator = registry.get("consistency").load(Checkpoint(folder))
    seeds = [5, 6, 7, 8]
    generator.batch_size = 1
    alone = generator.sample(seeds, steps=2)
    generator.batch_size = 3
    together = generator.sample(seeds, steps=2)
    assert alone.shape == (4, 32, 32, 3)
    assert np.abs(alone.astype(int) - together).max() <= 1
    assert len({image.tobytes() for image in alone}) == 4
    with pytest.raises(InputError, match="class_index 9" if classes else "no classes"):
        generator.sample([1], class_index=9)
    with pytest.raises(CheckpointError, match="no folder"):
        registry.get("consistency").load(Checkpoint(tmp_path / "nothing.bin"))


def test_a_manifest_names_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("consistency.py", "generators.methods.consistency", monkeypatch)
    consistency_folder(tmp_path / "weights", None)
    manifest = write_manifest(
        tmp_path / "mine.yaml",
        {
            "dataset": "mine",
            "size": 32,
            "splits": {"train": 0.5, "validation": 0.2},
            "reals": {"faces": {"package": "faces", "licence": "test", "count": 20}},
            "checkpoints": {"cd": {"generators": ["consistency"], "file": "weights", "licence": "MIT"}},
            "subsets": {"CD": {"count": 4, "real": "faces", "chain": [{"sample": "consistency", "checkpoint": "cd", "steps": 2}]}},
        },
    )
    store = Store(tmp_path / "store", "mine")
    built = run_build(make_plan(load_manifest(manifest)), store, "cpu")
    assert built.version is not None
    assert [row.chain[0]["generator"] for row in store.rows("label = 1")] == ["consistency"] * 4


def test_the_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("spectrum.py", "ntf_model.baselines.spectrum", monkeypatch)
    assert "spectrum" in detector_names()
    rng = np.random.default_rng(0)
    for number in range(60):  # the fakes have a pattern of every second pixel
        smooth = np.kron(rng.integers(60, 190, (8, 8, 3)), np.ones((6, 6, 1)))
        grid = 12 * (np.indices((48, 48)).sum(0) % 2)[..., None]
        for kind, picture in (("real", smooth), ("fake", smooth[::-1] + grid)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "data" / kind / f"{number}.png")
    splits = from_folders(tmp_path / "data")
    train_detector("spectrum", splits, tmp_path / "run", {"preset": "demo"})
    assert load_detector(tmp_path / "run").name == "spectrum"
    evaluated = evaluate_detector(tmp_path / "run", splits)
    assert (evaluated.evaluation.overall["unweighted"].measures["ap"].value or 0) > 0.95

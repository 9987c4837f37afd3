"""Every diffusion method from the folder or the files that its release comes as, with small random weights, through `ntf build`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.base import PromptRequest, SampleRequest
from generators.faces import guidance
from generators.loading import load_generator
from pipelines.catalogue.catalogue import Catalogue
from pipelines.images import decode, fit
from pipelines.manifest.load import load_manifest
from pipelines.store import Row, Store
from tests.commands import Answer
from tests.generators.methods import tiny_diffusion as tiny
from tests.support import diffface_checkpoints, write_manifest

SIZE = 16  # pixels, of all but DiffFace, whose 32 are brought to it
PROMPTS = ["a cat", "a dog of a face"]
SWAP = {"steps": 4, "skip": 2, "masking_threshold": 1, "candidates": 2}
STEPS: dict[str, dict[str, Any]] = {
    "DDPM": {"sample": "ddpm", "checkpoint": "pixels", "steps": 2},
    "DDIM": {"sample": "ddim", "checkpoint": "pixels", "steps": 2, "eta": 0.5},
    "PNDM": {"sample": "pndm", "checkpoint": "pixels", "steps": 4},
    "LDM": {"sample": "ldm", "checkpoint": "latents", "steps": 2},
    "LDM_text": {"prompt": "ldm", "checkpoint": "text-latents", "steps": 2, "prompts": PROMPTS},
    "SD": {"prompt": "stable_diffusion", "checkpoint": "sd", "steps": 2, "prompts": PROMPTS, "negative_prompt": "dog"},
    "DiffFace": {"swap": "diffface", "checkpoint": "diffface", "source": "faces", "target": "faces", **SWAP},
}
Ntf = Callable[..., Answer]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A subset of two images for each method, and each method's checkpoint as it is released."""
    monkeypatch.setattr(guidance, "PARSER_SIZE", 64)  # instead of 512: the same code, in seconds
    monkeypatch.setattr(guidance, "LOGIT_SIZE", 32)
    folders = {
        "pixels": (["ddpm", "ddim", "pndm"], tiny.pixel_pipeline(tmp_path / "ddpm")),
        "latents": (["ldm"], tiny.latent_pipeline(tmp_path / "ldm")),
        "text-latents": (["ldm"], tiny.text_latent_pipeline(tmp_path / "ldm-text")),
        "sd": (["stable_diffusion"], tiny.stable_diffusion_pipeline(tmp_path / "sd")),
    }
    entries = {name: {"generators": methods, "file": str(folder), "licence": "test"} for name, (methods, folder) in folders.items()}
    data = {
        "dataset": "diffusion",
        "size": SIZE,
        "shard_size": 2,
        "reals": {"faces": {"package": "faces", "licence": "test", "count": 8}},
        "checkpoints": entries | diffface_checkpoints(tmp_path / "diffface"),
        "subsets": {name: {"count": 2, "real": "faces", "chain": [step]} for name, step in STEPS.items()},
    }
    return write_manifest(tmp_path / "m.yaml", json.loads(json.dumps(data)))  # no object twice: YAML would write anchors


def test_every_method_is_built_into_the_store(ntf: Ntf, manifest: Path) -> None:
    built = ntf("build", str(manifest), "--device", "cpu")
    assert built.code == 0, built.err
    rows = [row for row in Store(manifest.parent / "store", "diffusion").rows(images=True) if row.role == "final"]
    assert Counter(row.subset for row in rows) == dict.fromkeys(STEPS, 2)
    reals = {row.id: row for row in Store(manifest.parent / "store", "diffusion").rows(images=True) if row.role == "real"}
    checked = load_manifest(manifest)
    catalogue = Catalogue.shipped().joined(checked.checkpoints)
    for subset in STEPS:
        first, second = (decode(row.image, row.id).astype(int) for row in rows if row.subset == subset)
        assert np.abs(first - second).mean() > 1, f"two seeds give one picture in {subset}"
    for row in rows:
        if row.subset != "DiffFace":
            assert np.abs(decode(row.image, row.id).astype(int) - made_again(row, catalogue)).max() <= 1, row.id
        else:
            target = decode(reals[row.target_id].image, row.id)
            assert {"candidate", "identity_similarity"} <= row.measures.keys()
            assert np.abs(decode(row.image, row.id).astype(int) - target).mean() > 1
    assert "nothing to do" in ntf("build", str(manifest), "--device", "cpu").out


def made_again(row: Row, catalogue: Catalogue) -> np.ndarray:
    """The image by its generator alone, from what the row says of it."""
    (link,) = row.chain
    generator = load_generator(link["generator"], catalogue.checkpoint(link["checkpoint"]))
    request = PromptRequest([link["seed"]], [link["prompt"]]) if "prompt" in link else SampleRequest([link["seed"]])
    return fit(generator.run(request, **link["parameters"]).images[0], SIZE)

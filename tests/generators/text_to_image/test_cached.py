"""The step cache: it leaves out blocks, its images are those of their seeds alone, and without it nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.base import PromptRequest
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.methods.cached_text_to_image import CachedTextToImage
from generators.methods.text_to_image import TextToImage
from tests.generators.text_to_image import tiny_families as tiny

STEPS = 6
PROMPTS = ["a cat", "a red dog that sits beside a cat", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("flux", tmp_path_factory.mktemp("flux"))


@pytest.fixture
def cached(folder: Path) -> TextToImage:
    return CachedTextToImage.load(Checkpoint(folder, {"size": 32}))


def counted(model: TextToImage, make: Callable[[], Any]) -> tuple[int, int, Any]:
    """How often the first and the last block were computed while `make` ran, and what it gave."""
    transformer = model.pipeline.transformer
    calls = {"first": 0, "last": 0}
    blocks = {"first": transformer.transformer_blocks[0].norm1, "last": transformer.single_transformer_blocks[-1].norm}

    def note(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    handles = [block.register_forward_hook(note(name)) for name, block in blocks.items()]
    try:
        made = make()
    finally:
        for handle in handles:
            handle.remove()
    return calls["first"], calls["last"], made


def test_blocks_are_left_out_where_a_step_changes_little(cached: TextToImage, folder: Path) -> None:
    plain = TextToImage.load(Checkpoint(folder, {"size": 32}))
    first, last, wanted = counted(plain, lambda: plain.prompt(PROMPTS[:1], [1], steps=STEPS))
    assert (first, last) == (STEPS, STEPS)
    first, last, made = counted(cached, lambda: cached.prompt(PROMPTS[:1], [1], steps=STEPS, cache_threshold=1.0))
    assert first == STEPS and 1 <= last < STEPS
    assert not np.array_equal(made, wanted)
    _, all_of_them, same = counted(cached, lambda: cached.prompt(PROMPTS[:1], [1], steps=STEPS, cache_threshold=1e-9))
    assert all_of_them == STEPS
    assert np.array_equal(same, wanted), "a cache that leaves nothing out changes nothing"


def test_an_image_does_not_depend_on_those_beside_it_and_the_cache_begins_empty(cached: TextToImage) -> None:
    settings = {"steps": STEPS, "cache_threshold": 1.0}
    cached.batch_size = 3
    together = cached.run(PromptRequest([1, 2, 3], PROMPTS), **settings)
    alone = [cached.run(PromptRequest([seed], [prompt]), **settings).images[0] for seed, prompt in zip([1, 2, 3], PROMPTS, strict=True)]
    assert all(np.array_equal(*pair) for pair in zip(together.images, alone, strict=True))
    assert not cached.pipeline.transformer.is_cache_enabled


def test_a_refusal_leaves_no_cache_behind_and_edits_are_not_for_it(cached: TextToImage) -> None:
    with pytest.raises(InputError, match="cannot edit"):
        cached.edit(np.zeros((1, 32, 32, 3), np.uint8), [1])
    with pytest.raises(InputError):
        cached.prompt(PROMPTS[:1], [1], call={"no_such_argument": 1})
    assert not cached.pipeline.transformer.is_cache_enabled


@pytest.mark.parametrize("name", ["turbo", "pixart"])
def test_a_unet_and_a_pipeline_that_tells_nothing_have_no_such_cache(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no step cache for \w+Pipeline.*`text_to_image`"):
        CachedTextToImage.load(Checkpoint(tiny.save(name, tmp_path), {"size": 32}))

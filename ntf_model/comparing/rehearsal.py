"""The whole of a comparison on a few pictures and one short epoch: to see that networks run and what they cost, before a long run."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

import numpy as np

from ntf_model.data.data import FAKE, DetectionData, DetectionSplits
from ntf_model.detector import DetectorConfig
from ntf_model.errors import InputError, counted
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.recipes.baseline import BaselineConfig


def few(splits: DetectionSplits, images: int) -> DetectionSplits:
    """At most `images` pictures in each split, half of them fakes, from as many subsets as that allows, and reals of their sources.
    What is trained or evaluated on them is marked as a rehearsal."""
    if images < 4:
        raise InputError(f"a split of {counted(images, 'picture')} is too small to train and evaluate a detector on", "Give at least 4")
    said = f"at most {images} images in each split, one epoch"
    parts = (_few(data, images) for data in splits)
    return DetectionSplits(*(replace(data, origin={**data.origin, "rehearsal": said}) for data in parts))


def one_epoch(config: DetectorConfig, images: int) -> DetectorConfig:
    """The configuration with one epoch of batches that suit `images` pictures, all else as it was.

    A baseline's are half of them: a batch of Self-Blended Images is as many pairs, and EfficientNet-B4 at 380 px takes 0.7 GiB for each.
    """
    if isinstance(config, BaselineConfig):
        return config.model_copy(update={"epochs": 1, "batch_size": min(config.batch_size, max(2, images // 2))})
    if isinstance(config, NTFConfig):
        stages = {"stage1": config.stage1, "stage2": config.stage2}
        return merge(config, {name: {"epochs": 1, "batch_size": min(stage.batch_size, images)} for name, stage in stages.items()})
    return config


def _few(data: DetectionData, images: int) -> DetectionData:
    fakes = _in_turn([np.flatnonzero((data.labels == FAKE) & (data.subsets == name)) for name in data.fake_subsets])[: images // 2]
    sources = dict.fromkeys(source for row in fakes for source in data.sources_of(str(data.subsets[row])))
    reals = _in_turn([np.flatnonzero((data.labels != FAKE) & (data.subsets == name)) for name in sources])[: images - images // 2]
    return data.take(sorted([*fakes, *reals]))


def _in_turn(groups: list[np.ndarray]) -> list[int]:
    """The first of each group, then the second of each, and so on."""
    return [int(row) for together in zip_longest(*groups) for row in together if row is not None]

"""Generators that stay loaded between the shards of a chain."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

import torch

from foreign.memory import release
from generators.base import Generator
from generators.loading import load_generator
from generators.memory import OutOfMemory
from pipelines.catalogue.catalogue import Catalogue
from pipelines.files import cache_folder
from pipelines.make.batches import RememberedBatches

COMPILED = "TORCHINDUCTOR_CACHE_DIR"


class Models:
    """The last `keep` generators that were used, loaded, on one device.

    `batch` is how many images each makes at once, if a person says so; else a GPU takes as many as fit and pay.
    """

    def __init__(self, catalogue: Catalogue, device: str = "cpu", keep: int = 2, batch: int | None = None):
        self._catalogue = catalogue
        self.device = device
        self._keep = keep
        self._batch = batch
        self._batches = RememberedBatches()
        self._loaded: OrderedDict[tuple[str, str], Generator] = OrderedDict()

    def get(self, generator: str, checkpoint: str) -> Generator:
        """The generator with that checkpoint, loaded now if it is not yet. Where it does not fit beside the others, they go.

        Raises CheckpointError if it cannot be loaded, and OutOfMemory if it does not fit by itself."""
        key = (generator, checkpoint)
        if key not in self._loaded:
            self._let_go(list(self._loaded)[: max(0, len(self._loaded) - self._keep + 1)])
            try:
                self._loaded[key] = self._load(*key)
            except OutOfMemory:
                if not self._loaded:
                    raise
        if key not in self._loaded:  # outside of the handler, whose exception holds what was loaded by then
            self._let_go(list(self._loaded))
            self._loaded[key] = self._load(*key)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _load(self, generator: str, checkpoint: str) -> Generator:
        title = f"{checkpoint} {self._catalogue.sha256(checkpoint)[:12]}" if torch.device(self.device).type == "cuda" else checkpoint
        found = self._catalogue.checkpoint(checkpoint)
        if found.options.get("compile") or found.options.get("cuda_graphs"):
            keep_what_is_compiled()
        return load_generator(
            generator,
            found,
            self.device,
            batch_size=self._batch,
            remembered=self._batches,
            title=title,
        )

    def keep_only(self, needed: Collection[tuple[str, str]]) -> None:
        """Lets go of the generators that are not among `needed`, each by its name and its checkpoint's."""
        self._let_go([key for key in self._loaded if key not in needed])

    def _let_go(self, keys: list[tuple[str, str]]) -> None:
        """Frees the memory of generators before another one takes it."""
        for key in keys:
            del self._loaded[key]
        if keys:
            release()


def keep_what_is_compiled() -> None:
    """Has `torch.compile` keep its work for other runs in `$NTF_CACHE/compiled`, unless the user names a folder: a computer's folder for
    temporary files is emptied. PyTorch states that one in the environment as soon as something asks it, so it is no user's choice. Where
    `$NTF_CACHE` cannot be written, PyTorch's stays."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # takes a second

    folder = cache_folder() / "compiled"
    if os.environ.get(COMPILED) in (None, default_cache_dir()) and _can_be_written(folder):
        os.environ[COMPILED] = str(folder)


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def pick_device(wanted: str = "auto") -> str:
    """ "auto" is the first GPU if there is one, else the CPU."""
    return ("cuda:0" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted

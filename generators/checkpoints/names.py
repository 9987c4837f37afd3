"""The names of a network's tensors without what programs put around them when they save it.

The same weights are saved as `conv.weight`, `module.conv.weight` (DataParallel), `_orig_mod.conv.weight` (torch.compile),
`state_dict.conv.weight` (Lightning), or beside a moving average of themselves. `read_weights` takes all of that off, in any order, for
every method. Names that are a release's own (`G_ema.`, `generator.`, `model.diffusion_model.`) stay: the methods know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from generators.checkpoints.reader import Contents, read

COMPILED, PARALLEL = "_orig_mod", "module"
CONTAINERS = ("state_dict", "model_state_dict", "params")
AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "params_ema", "model_ema", "ema_model", "ema")
# What a training program saves beside its network: `model` or `net` is a container where all else, if there is
# more, is one of these.
NO_WEIGHTS = {"optimizer", "optimizers", "optimizer_states", "opt", "scheduler", "lr_scheduler", "lr_schedulers", "scaler", "epoch", "step"}
NO_WEIGHTS |= {"iter", "iteration", "global_step", "loss", "best", "rng_state", "args", "config"}
MAX_WRAPPERS = 8


class Renamed(Mapping[str, torch.Tensor]):
    """Tensors under other names. Each is still read when it is asked for."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], names: Mapping[str, str]):
        self._tensors, self._names = tensors, dict(names)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[self._names[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_weights(path: Path) -> Contents:
    """`read`, with `plain_names`. Raises CheckpointError as `read` does."""
    contents = read(path)
    names = plain_names(contents.tensors)
    return replace(contents, tensors=Renamed(contents.tensors, names)) if names.keys() != contents.tensors.keys() else contents


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """The plain names of a file's tensors, each with the name that the file has for it.

    Of weights that are there twice, as trained and as their moving average under the same names, the average stays.
    """
    plain = {name: name for name in names}
    for _ in range(MAX_WRAPPERS):
        stripped = _without_container(_without_wrappers(plain))
        if stripped.keys() == plain.keys():
            break
        plain = stripped
    return plain


def _without_wrappers(names: dict[str, str]) -> dict[str, str]:
    """Without `_orig_mod` anywhere, and without `module` where it is all that its parent has and wraps more than one layer.

    (pytorch_GAN_zoo's layers have a `module` of their own, with nothing but a weight and a bias in it.)
    """
    children: dict[str, set[str]] = {}
    deep: set[str] = set()
    for name in names:
        parts = name.split(".")
        for depth, part in enumerate(parts):
            parent = ".".join(parts[:depth])
            children.setdefault(parent, set()).add(part)
            if part == PARALLEL and len(parts) > depth + 2:
                deep.add(parent)
    wrapped = {parent for parent in deep if children[parent] == {PARALLEL}}

    def unwrapped(name: str) -> str:
        parts = name.split(".")
        kept = [
            part
            for depth, part in enumerate(parts)
            if not (depth < len(parts) - 1 and (part == COMPILED or (part == PARALLEL and ".".join(parts[:depth]) in wrapped)))
        ]
        return ".".join(kept)

    renamed = {unwrapped(name): original for name, original in names.items()}
    return renamed if len(renamed) == len(names) else names  # two names would become one


def _without_container(names: dict[str, str]) -> dict[str, str]:
    """The tensors in the dict that holds the network, if the file has such a dict, under their names in it."""
    tops: dict[str, dict[str, str]] = {}
    for name, original in names.items():
        top, _, rest = name.partition(".")
        if rest:
            tops.setdefault(top, {})[rest] = original
    for average in AVERAGES:
        trained: list[set[str]] = [set(tops[top]) for top in (*CONTAINERS, "model", "net") if top in tops]
        trained.append({name for name in names if not name.startswith(f"{average}.")})
        if average in tops and any(others and others <= tops[average].keys() for others in trained):
            return tops[average]
        if average in tops and len(tops[average]) == len(names):
            return tops[average]
    if any(average in tops for average in AVERAGES):  # of other names than the trained ones: the method knows what it is
        return names
    for container in CONTAINERS:
        if container in tops:
            return tops[container]
    for container in ("model", "net"):
        if container in tops and {name.partition(".")[0] for name in names} - {container} <= NO_WEIGHTS:
            return tops[container]
    return names

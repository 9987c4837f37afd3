"""Randomness for one image at a time.

Every image has a seed of its own, and everything random about the image comes from that seed alone. So the same seed gives the same
image whatever the batch, the order or the number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from generators.errors import InputError

SEED_BITS = 63  # fits a signed 64-bit column, and torch.Generator


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) that depends on every part and on their order.

    >>> derive_seed("SimSwap_LDM", 0, 17) == derive_seed("SimSwap_LDM", 0, 17)
    True
    """
    return int.from_bytes(hashlib.sha256(seed_text(*parts).encode()).digest()[:8], "big") >> (64 - SEED_BITS)


def seed_text(*parts: str | int) -> str:
    """The text that `derive_seed` hashes. That of more parts begins with that of the first ones, a `\\x1f` after them."""
    return "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)


def derive_seeds(before: Sequence[str | int], indices: Iterable[int], after: Sequence[str | int] = ()) -> np.ndarray:
    """`derive_seed(*before, index, *after)` for each of `indices`, uint64 `[N]`: for millions of them."""
    head, tail = f"{seed_text(*before)}\x1fint:" if before else "int:", f"\x1f{seed_text(*after)}" if after else ""
    return seeds_of(f"{head}{index}{tail}".encode() for index in indices)


def seeds_of(texts: Iterable[bytes]) -> np.ndarray:
    """The seeds, uint64 `[N]`, of parts whose texts (`seed_text`, in UTF-8) somebody has put together."""
    sha256 = hashlib.sha256
    digests = b"".join([sha256(text).digest() for text in texts])
    return np.frombuffer(digests, ">u8")[:: sha256().digest_size // 8].astype(np.uint64) >> np.uint64(64 - SEED_BITS)


def numpy_rng(seed: int, stream: str = "") -> np.random.Generator:
    """The NumPy generator of one image. `stream` separates independent uses of the same seed (latent, noise, augmentation)."""
    return np.random.default_rng(derive_seed(seed, stream) if stream else seed)


def torch_rng(seed: int, stream: str = "") -> torch.Generator:
    """The torch generator of one image, always on the CPU, so that the numbers do not depend on the device."""
    return torch.Generator("cpu").manual_seed(derive_seed(seed, stream) if stream else seed)


def randn(seeds: Sequence[int], shape: Sequence[int], stream: str = "") -> torch.Tensor:
    """Standard normal float32 `[N, *shape]` on the CPU, row i from `seeds[i]` alone."""
    return randn_rows([torch_rng(seed, stream) for seed in seeds], shape)


def randn_rows(rngs: Sequence[torch.Generator], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal float32 `[N, *shape]` on the CPU, row i the next of `rngs[i]`."""
    return torch.stack([torch.randn(*shape, generator=rng) for rng in rngs])


def legacy_randn(seed: int, shape: Sequence[int]) -> np.ndarray:
    """`numpy.random.RandomState(seed).randn(*shape)`, float64: the stream that NVIDIA's `generate.py --seeds` uses.

    RandomState takes 32-bit seeds; a longer seed is given to it as two words, so that no two of our seeds meet.
    """
    words = seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32]
    return np.random.RandomState(words).randn(*shape)


def draw_classes(seeds: Sequence[int], classes: int, given: int | None) -> torch.Tensor | None:
    """The class `[N]` (int64) of each image of a conditional network: `given`, or else drawn from the image's own seed. None for a network
    without classes. Raises InputError if there is no such class."""
    if given is not None and given >= classes:
        raise InputError(f"class_index {given}, but this checkpoint has {classes or 'no'} classes")
    if not classes:
        return None
    return torch.tensor([int(numpy_rng(seed, "class").integers(classes)) if given is None else given for seed in seeds])

"""Computing a block again on the way back, instead of keeping what it computed: less memory, about a third more time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`block(x)`, of which only `x` is kept for the gradient. Results, gradients, dropout and the running statistics of BatchNorm are those
    of the plain call, to the bit."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_left_alone(block)))


@contextmanager
def statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """For the length of the block, BatchNorm normalises by its batch, and does not count that batch in its running statistics."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats and module.training]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # its tensors are those of the first time, which a change of `track_running_stats` would alter
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)

"""BatchNorm's statistics, measured at the present weights instead of averaged while they moved."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def measure_batch_norm(network: nn.Module, inputs: Iterable[torch.Tensor]) -> None:
    """Sets the statistics of every BatchNorm of `network` to their means over `inputs`, batches `[N, 3, H, W]` on its device.

    The running averages lag behind weights that move fast, and with a momentum of 0.01 (EfficientNet's) they are still near their start
    after a hundred steps, so that a network which has learnt answers at random in testing ("precise BatchNorm", Wu and Johnson 2021).
    """
    layers = [module for module in network.modules() if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm))]
    momenta = [layer.momentum for layer in layers]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
    network.train()
    with torch.no_grad():
        for batch in inputs:
            network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum

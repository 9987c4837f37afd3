"""Linear layers for a few rows at a time on a CPU.

A transformer that makes one token at a time multiplies its whole weights by as many rows as there are images. With the weights in
oneDNN's own layout, eight rows take about as long as one (half the time that `F.linear` takes, which hands them to a routine for large
matrices), and each row comes out the same, bit for bit, whatever the number of rows from two up.
"""

from __future__ import annotations

import torch
from torch import nn


class PackedLinear(nn.Module):
    """What `linear` computes in float32 on a CPU, without gradients; `rows` is the usual number of rows."""

    def __init__(self, linear: nn.Linear, rows: int):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def pack_linears(network: nn.Module, rows: int = 8) -> None:
    """Replaces every `nn.Linear` inside `network`, one after the other, so that no second copy of all weights is made. Does nothing where
    oneDNN is missing or the network is not a float32 one on a CPU."""
    weight = next(network.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child, rows))

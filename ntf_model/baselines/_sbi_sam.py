"""Sharpness-aware minimisation (Foret et al. 2021) over SGD, and the schedule that Self-Blended Images uses with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class SAM:
    """`step` takes a gradient where the loss is worst within `rho` of the weights, and moves the weights by it from where they were."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float = 1e-3, momentum: float = 0.9, rho: float = 0.05):
        self.sgd = torch.optim.SGD(list(parameters), lr=lr, momentum=momentum)
        self.rho = rho

    def step(self, closure: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """`closure` computes the loss and its gradients; it is called twice. Returns both losses: at the weights and at the worst point."""
        self.sgd.zero_grad()
        first = closure().detach()
        parameters = [p for group in self.sgd.param_groups for p in group["params"] if p.grad is not None]
        before = [p.detach().clone() for p in parameters]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in parameters]))
        with torch.no_grad():
            for p in parameters:
                p.add_(p.grad * (self.rho / (norm + 1e-12)))
        self.sgd.zero_grad()
        second = closure().detach()
        with torch.no_grad():
            for p, start in zip(parameters, before, strict=True):
                p.copy_(start)
        self.sgd.step()
        return first, second

    def zero_grad(self) -> None:
        self.sgd.zero_grad()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.sgd.param_groups

    def state_dict(self) -> dict[str, Any]:
        return self.sgd.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sgd.load_state_dict(state)


def linear_decay(lr: float, epoch: int, epochs: int = 100, start: int = 75) -> float:
    """The learning rate of `epoch` (from 0): constant until `start`, then straight to 0 at `epochs`."""
    return lr if epoch <= start else lr * (epochs - epoch) / (epochs - start)

"""Grad-CAM++ (Chattopadhyay et al. 2018) and Grad-CAM: which places of a picture moved a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

Method = Literal["gradcam++", "gradcam"]
ALPHA_EPS, SCALE_EPS = 1e-6, 1e-7


class Activation(NamedTuple):
    """A layer's output for a batch and the gradient of the score with respect to it: float32 `[N, C, h, w]` each."""

    values: torch.Tensor
    gradients: torch.Tensor


def watch(score: Callable[[torch.Tensor], torch.Tensor], layers: Sequence[nn.Module], pixels: torch.Tensor) -> list[Activation]:
    """Runs `score` (pixels `[N, 3, H, W]` to `[N]`, the raw logit of what is to be explained) and looks at `layers` on the way."""
    seen: dict[int, torch.Tensor] = {}

    def keep(place: int) -> Callable[[nn.Module, tuple, torch.Tensor], torch.Tensor]:
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
            seen[place] = output if output.requires_grad else output.requires_grad_()
            return seen[place].clone()  # a following in-place ReLU must not change what was kept

        return hook

    handles = [layer.register_forward_hook(keep(place)) for place, layer in enumerate(layers)]
    try:
        with torch.enable_grad():
            total = score(pixels).sum()  # pictures do not meet in eval mode: each gets its own gradient
            gradients = torch.autograd.grad(total, [seen[place] for place in range(len(layers))])
    finally:
        for handle in handles:
            handle.remove()
    return [Activation(seen[place].detach(), gradient.detach()) for place, gradient in enumerate(gradients)]


def channel_weights(activation: Activation, method: Method = "gradcam++") -> torch.Tensor:
    """How much each channel counts: `[N, C]`.

    Grad-CAM: the mean gradient. Grad-CAM++ (Eq. 10 and 19, for the score itself and not its exponential): the sum over places of
    alpha x relu(G) with alpha = G^2 / (2 G^2 + (sum of the channel) G^3 + eps), 0 where G is 0.
    """
    values, gradients = activation
    if method == "gradcam":
        return gradients.mean((2, 3))
    squared = gradients.square()
    alpha = squared / (2 * squared + values.sum((2, 3), keepdim=True) * squared * gradients + ALPHA_EPS)
    return (torch.where(gradients != 0, alpha, 0.0) * gradients.relu()).sum((2, 3))


def heat_maps(activations: Sequence[Activation], size: tuple[int, int], method: Method = "gradcam++", scaled: bool = True) -> np.ndarray:
    """One map for each picture, averaged over layers: float32 `[N, H, W]` from 0 to nearly 1; `size` is (H, W) in pixels. Unless `scaled`,
    maps are as they come, at least 0: those of several pictures can be compared."""
    layers = []
    for activation in activations:
        weights = channel_weights(activation, method)
        cam = (weights[:, :, None, None] * activation.values).sum(1).relu().cpu().numpy().astype(np.float32)
        layers.append(np.stack([cv2.resize(heat, (size[1], size[0])) for heat in (_scaled(cam) if scaled else cam)]))
    mean = np.maximum(np.mean(layers, axis=0, dtype=np.float32), 0)
    return _scaled(mean) if scaled else mean


def grad_cam(
    score: Callable[[torch.Tensor], torch.Tensor],
    layers: Sequence[nn.Module],
    pixels: torch.Tensor,
    method: Method = "gradcam++",
    scaled: bool = True,
) -> np.ndarray:
    """Heat maps of `score` for `pixels` `[N, 3, H, W]`, at their size: float32 `[N, H, W]`, each in [0, 1] if `scaled`. The network must be
    in eval mode."""
    return heat_maps(watch(score, layers, pixels), tuple(pixels.shape[-2:]), method, scaled)


def _scaled(maps: np.ndarray) -> np.ndarray:
    """Each map less its least value, over its largest."""
    maps = maps - maps.min((1, 2), keepdims=True)
    return maps / (SCALE_EPS + maps.max((1, 2), keepdims=True))

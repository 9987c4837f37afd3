"""What of an encoder learns: all of it, low-rank matrices beside its weights (LoRA, Hu et al. 2022, by peft), or nothing."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from ntf_model.encoders.encoder import Encoder
from ntf_model.errors import InputError

Adaptation = Literal["whole", "lora", "frozen"]
Network = TypeVar("Network", bound=nn.Module)


class LoRA(BaseModel):
    """`rank` of the matrices; their product counts `alpha / rank` times; `targets` are the ends of the names of the layers that get them,
    such as ("query", "value"). Without `targets`: every linear layer of a transformer, every 1x1 convolution of a network that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(8, gt=0)
    alpha: int = Field(16, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()


def adapt(encoder: Network, adaptation: Adaptation, lora: LoRA) -> Network:
    """`encoder`, of which as much learns as `adaptation` says. With "lora" its layers are replaced in place; the matrices begin with a
    product of zero, so it gives the same embedding as before. Raises InputError if no layer has a name that ends as one of the targets."""
    if adaptation == "frozen":
        return encoder.requires_grad_(False)
    if adaptation == "lora":
        from peft import LoraConfig, inject_adapter_in_model  # seconds to import

        names = target_names(encoder, lora.targets)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names)
        inject_adapter_in_model(config, encoder)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_("lora_" in name)
    return encoder


def freeze_unreached(network: nn.Module) -> None:
    """What cannot change the embedding of an encoder in `network` does not learn any more: DINOv2's mask token, layers behind the one that
    is read, a pooler that is not. Several processes wait for a gradient of everything that learns, and these would never get one."""
    for encoder in [module for module in network.modules() if isinstance(module, Encoder)]:
        learning = [value for value in encoder.parameters() if value.requires_grad]
        if not learning:
            continue
        was_training = encoder.training
        with torch.enable_grad():
            total = encoder.eval()(torch.zeros(1, 3, encoder.crop, encoder.crop, device=learning[0].device)).sum()
            for value, gradient in zip(learning, torch.autograd.grad(total, learning, allow_unused=True), strict=True):
                value.requires_grad_(gradient is not None)
        encoder.train(was_training)


def target_names(encoder: nn.Module, targets: tuple[str, ...] = ()) -> list[str]:
    """The whole names of the layers that get matrices."""
    layers = {name: module for name, module in encoder.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    if targets:
        names = [name for name in layers if any(name == target or name.endswith(f".{target}") for target in targets)]
    else:
        linear = [name for name, module in layers.items() if isinstance(module, nn.Linear)]
        names = linear or [name for name, module in layers.items() if module.kernel_size == (1, 1) and module.groups == 1]
    if not names:
        ends = sorted({name.rpartition(".")[2] for name in layers})
        wanted = f"ends in {' or '.join(targets)}" if targets else "is linear or a 1x1 convolution"
        raise InputError(f"no layer of the encoder {wanted}, so LoRA has no target", f"Its layers end in: {', '.join(ends)}")
    return names

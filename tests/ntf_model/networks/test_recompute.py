"""What is computed again changes nothing but the memory that is kept."""

from __future__ import annotations

import pytest
import torch

from ntf_model.baselines.sbi import SBIConfig, SelfBlendedImages
from ntf_model.networks.efficientnet import EfficientNet


def trained(recomputes: bool) -> tuple[EfficientNet, torch.Tensor, int]:
    """A network after two passes forth and back, its last output, and the bytes that the last pass kept for its gradient."""
    torch.manual_seed(7)
    network = EfficientNet("efficientnet-b0", 2).train()
    network.recomputes = recomputes
    images = torch.randn(4, 3, 64, 64)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for _ in range(2):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(images)
            size = sum(kept.values())
        output.square().sum().backward()
    return network, output, size


def test_output_gradients_dropout_and_running_statistics_are_the_same_to_the_bit() -> None:
    (plain, output, _), (again, output_again, _) = trained(False), trained(True)
    assert torch.equal(output, output_again)
    theirs = dict(again.named_parameters())
    for name, weights in plain.named_parameters():
        assert weights.grad is not None and torch.equal(weights.grad, theirs[name].grad), name
    statistics = dict(again.named_buffers())
    assert len(statistics) > 100
    for name, values in plain.named_buffers():
        assert torch.equal(values, statistics[name]), name
    assert plain._blocks[0]._bn1.num_batches_tracked == 2
    assert {module.momentum for module in again.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {0.01}


def test_less_is_kept() -> None:
    weights = sum(p.numel() * 4 for p in EfficientNet("efficientnet-b0", 2).parameters())
    plain, again = trained(False)[2], trained(True)[2]
    assert again - weights < (plain - weights) / 4


def test_nothing_is_computed_again_where_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(block: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("computed again")

    monkeypatch.setattr("ntf_model.networks.efficientnet.recomputed", refuse)
    network, images = EfficientNet("efficientnet-b0", 2), torch.zeros(2, 3, 32, 32)
    network.recomputes = True
    with torch.no_grad():
        network.train()(images)
    network.eval()(images)


@pytest.mark.parametrize(
    ("asked", "device", "expected"), [(None, "cpu", True), (None, "meta", False), (False, "cpu", False), (True, "meta", True)]
)
def test_sbi_computes_again_on_a_cpu_or_where_it_is_asked_to(asked: bool | None, device: str, expected: bool) -> None:
    config = SBIConfig(backbone="efficientnet-b0", recompute=asked)
    with torch.device(device):
        assert SelfBlendedImages(config, SelfBlendedImages.build(config), device).network.recomputes is expected

from __future__ import annotations

import pytest
import torch

from generators.networks.packed import PackedLinear, pack_linears
from generators.networks.vq.gpt import GPT, keep_likely, sample_tokens


@pytest.fixture
def network() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(vocab_size=12, block_size=9, n_layer=2, n_head=4, n_embd=32).eval().requires_grad_(False)
    for value in gpt.parameters():
        value.normal_(0, 0.3)
    return gpt


def test_steps_with_memory_give_the_logits_of_the_whole_sequence(network: GPT) -> None:
    tokens = torch.randint(12, (3, 9))
    memory = network.new_memory(3, 9)
    stepwise = torch.cat([network(tokens[:, step : step + 1], memory, step) for step in range(9)], dim=1)
    assert torch.allclose(stepwise, network(tokens), atol=1e-5)


def test_tokens_are_those_that_the_likelihood_and_the_noise_choose_together(network: GPT) -> None:
    gumbel = torch.randn(4, 9, 12)
    tokens = sample_tokens(network, 5, gumbel, temperature=0.7, top_k=4)
    sequence = torch.cat([torch.full((4, 1), 5), tokens[:, :-1]], dim=1)
    logits = network(sequence) / 0.7
    kept = torch.stack([keep_likely(logits[:, step], 4) for step in range(9)], dim=1)
    assert torch.equal(tokens, (kept + gumbel).argmax(-1))


def test_gumbel_noise_draws_from_the_softmax(network: GPT) -> None:
    noise = -(-torch.rand(20_000, 1, 12, dtype=torch.float64).log()).log().float()
    drawn = sample_tokens(network, 0, noise)[:, 0].bincount(minlength=12) / 20_000
    assert torch.allclose(drawn, network(torch.zeros(1, 1, dtype=torch.int64))[0, 0].softmax(-1), atol=0.015)


def test_keep_likely() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.5, 0.3]]).log()
    assert torch.equal(keep_likely(logits, 2).isfinite(), torch.tensor([[True, True, False, False], [False, False, True, True]]))
    assert torch.equal(keep_likely(logits, None, 0.7).isfinite(), torch.tensor([[True, True, False, False], [False, False, True, True]]))
    assert torch.equal(keep_likely(logits, None, 0.1).isfinite().sum(1), torch.tensor([1, 1]))  # never none
    assert torch.equal(keep_likely(logits, 9), logits)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")
def test_packed_layers_give_the_same_numbers_and_each_row_for_itself(network: GPT) -> None:
    tokens = torch.randint(12, (6, 9))
    wanted = network(tokens)
    pack_linears(network)
    assert sum(isinstance(module, PackedLinear) for module in network.modules()) == 9
    assert torch.allclose(network(tokens), wanted, atol=1e-5)
    gumbel = torch.randn(8, 9, 12)
    together = sample_tokens(network, 0, gumbel)
    for rows in (1, 3):
        assert torch.equal(torch.cat([sample_tokens(network, 0, part) for part in gumbel.split(rows)]), together)

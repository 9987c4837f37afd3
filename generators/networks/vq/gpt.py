"""The transformer that VQGAN samples its codes with (Esser et al. 2021, section 3.2; GPT-2, Radford et al. 2019).

Tensors carry minGPT's names, but for query, key and value, which are one layer here. Keys and values of earlier positions are kept in
memory that is allocated once, so a step costs one reading of the weights however long the sequence has become.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.n_head = n_head
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None, start: int) -> torch.Tensor:
        rows, length, width = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.n_head, width // self.n_head).permute(2, 0, 3, 1, 4)
        if memory is not None:
            memory[0, :, :, start : start + length], memory[1, :, :, start : start + length] = k, v
            k, v = memory[:, :, :, : start + length]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        return self.proj(y.transpose(1, 2).reshape(rows, length, width))


class Block(nn.Module):
    def __init__(self, n_embd: int, n_head: int):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = Attention(n_embd, n_head)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None, start: int) -> torch.Tensor:
        x = x + self.attn(self.ln1(x), memory, start)
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """Logits of the next token, for sequences of at most `block_size` tokens."""

    def __init__(self, vocab_size: int, block_size: int, n_layer: int, n_head: int, n_embd: int):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, n_embd)
        self.pos_emb = nn.Parameter(torch.zeros(1, block_size, n_embd))
        self.blocks = nn.ModuleList(Block(n_embd, n_head) for _ in range(n_layer))
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        self.n_head = n_head

    @property
    def block_size(self) -> int:
        return self.pos_emb.shape[1]

    def new_memory(self, rows: int, length: int) -> torch.Tensor:
        """Room for the keys and values of `length` positions: `[n_layer, 2, rows, n_head, length, n_embd / n_head]`."""
        heads, width = self.n_head, self.pos_emb.shape[2]
        return self.pos_emb.new_empty(len(self.blocks), 2, rows, heads, length, width // heads)

    def forward(self, tokens: torch.Tensor, memory: torch.Tensor | None = None, start: int = 0) -> torch.Tensor:
        """Float32 logits `[N, T, vocab_size]` of tokens `[N, T]` (int64). With `memory` the tokens stand at positions `start` and on, and
        see what it holds of the positions before them; a call that is not the first takes one token at a time."""
        x = self.tok_emb(tokens) + self.pos_emb[:, start : start + tokens.shape[1]]
        for layer, block in enumerate(self.blocks):
            x = block(x, None if memory is None else memory[layer], start)
        return self.head(self.ln_f(x)).float()


def keep_likely(logits: torch.Tensor, top_k: int | None = None, top_p: float = 1.0) -> torch.Tensor:
    """`logits` `[N, V]` with minus infinity where a token is not among the `top_k` most likely, or is past the smallest set of tokens that
    together have a probability of `top_p` (Holtzman et al. 2020)."""
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)
    if top_p < 1.0:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        unlikely = probabilities.cumsum(-1) - probabilities > top_p
        logits = logits.masked_fill(torch.zeros_like(unlikely).scatter(-1, order, unlikely), -torch.inf)
    return logits


def are_finite(logits: torch.Tensor) -> torch.Tensor:
    """Which rows of `[N, V]` hold nothing that is infinite or not-a-number, bool `[N]`. Tokens do not show it: not-a-number is the largest
    of a row."""
    return torch.isfinite(logits).all(-1)


def marked(pixels: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Images `[N, ...]` that are not-a-number where `whole` `[N]` is false, so that they are seen as what they are (`generators.half`)."""
    return torch.where(whole.view(-1, *[1] * (pixels.dim() - 1)), pixels, torch.nan)


def sample_tokens(
    network: GPT, first: int, gumbel: torch.Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> torch.Tensor:
    """The tokens of `sample_and_watch` alone."""
    return sample_and_watch(network, first, gumbel, temperature, top_k, top_p)[0]


def sample_and_watch(
    network: GPT, first: int, gumbel: torch.Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `[N, T]` (int64) that follow the token `first`, and whether each image's were drawn from finite numbers alone, bool `[N]`.

    `gumbel` `[N, T, vocab_size]` is noise from Gumbel(0, 1): the largest of logit plus noise is a draw from the softmax, so that row i of
    it, made from the seed of image i, decides image i alone.
    """
    images, steps, _ = gumbel.shape
    rows = max(images, 2)  # one row alone takes another routine, whose last bits differ
    memory = network.new_memory(rows, steps)
    tokens = gumbel.new_empty(images, steps, dtype=torch.int64)
    current = torch.full((rows, 1), first, device=gumbel.device)
    whole = torch.ones(images, dtype=torch.bool, device=gumbel.device)
    for step in range(steps):
        logits = network(current, memory, step)[:images, -1] / temperature
        whole &= are_finite(logits)
        tokens[:, step] = (keep_likely(logits, top_k, top_p) + gumbel[:, step]).argmax(-1)
        current[:images] = tokens[:, step : step + 1]
    return tokens, whole

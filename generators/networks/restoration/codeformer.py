"""CodeFormer (Zhou et al., "Towards Robust Blind Face Restoration with Codebook Lookup Transformer", NeurIPS 2022).

An encoder reads the damaged face, a transformer predicts for each of its places which entry of a codebook of good faces belongs there, and
a generator draws the face from those entries. `fidelity_weight` (the paper's w) lets features of the damaged face steer the generator.
Tensors carry the names of the release, where the layers of encoder and generator are numbered in one row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from generators.errors import CheckpointError
from generators.networks.restoration.codeformer_blocks import Downsample, Fusion, ResidualBlock, TransformerLayer, Upsample, build_blocks
from generators.networks.state import count, load_exactly
from generators.networks.upsample import upsampling_kernel

STATISTICS_EPS = 1e-5


class CodeFormer(nn.Module):
    """`forward(faces)`: aligned RGB faces `[N, 3, S, S]` in [-1, 1] to restored ones, nominally in [-1, 1], with S = `size`."""

    def __init__(
        self, encoder: nn.Module, generator: nn.Module, codes: tuple[int, int], dim_embd: int, n_head: int, n_layers: int, tokens: int
    ):
        super().__init__()
        self.encoder, self.generator = encoder, generator
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(*codes)
        self.position_emb = nn.Parameter(torch.empty(tokens, dim_embd))
        self.feat_emb = nn.Linear(codes[1], dim_embd)
        self.ft_layers = nn.Sequential(*(TransformerLayer(dim_embd, n_head) for _ in range(n_layers)))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(dim_embd), nn.Linear(dim_embd, codes[0], bias=False))
        self.fuse_convs_dict = nn.ModuleDict()
        self.side = math.isqrt(tokens)
        self.size = self.side * 2 ** sum(isinstance(block, Downsample) for block in encoder.blocks)
        self.encoder_places = _encoder_places(list(encoder.blocks), self.size)
        self.generator_places = _generator_places(list(generator.blocks), self.side)

    def forward(self, faces: torch.Tensor, fidelity_weight: float = 0.5, adain: bool = True) -> torch.Tensor:
        """`adain` gives the codebook's features the mean and spread of the encoder's, as the official tool does."""
        features, sides = self.encode(faces)
        codes = self.logits(features).argmax(2)
        x = self.quantize.embedding(codes).view(len(codes), self.side, self.side, -1).permute(0, 3, 1, 2)
        x = x.contiguous()  # on channels-last memory group normalisation on a CPU rounds twenty times as coarsely
        if adain:
            x = _with_statistics(x, features)
        for place, block in enumerate(self.generator.blocks):
            x = block(x)
            side = self.generator_places.get(place)
            if fidelity_weight > 0 and side is not None and str(side) in self.fuse_convs_dict:
                x = self.fuse_convs_dict[str(side)](sides[side], x, fidelity_weight)
        return x

    def encode(self, faces: torch.Tensor) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """The encoder's output `[N, width, side, side]`, and by their side the features that a fusion looks at."""
        x, sides = faces, {}
        for place, block in enumerate(self.encoder.blocks):
            x = block(x)
            side = self.encoder_places.get(place)
            if side is not None and str(side) in self.fuse_convs_dict:
                sides[side] = x
        return x, sides

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """For each place, row by row, a number for each entry of the codebook: `[N, side * side, codes]`."""
        tokens = self.feat_emb(features.flatten(2).transpose(1, 2))
        for layer in self.ft_layers:
            tokens = layer(tokens, self.position_emb)
        return self.idx_pred_layer(tokens)

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor], source: str = "the checkpoint", n_head: int = 8) -> CodeFormer:
        """The network of a state dict, all sizes read off it but the number of attention heads. Raises CheckpointError."""
        if "position_emb" not in state or "encoder.blocks.0.weight" not in state:
            raise CheckpointError(
                f"{source} is no CodeFormer", "It should have position_emb and encoder.blocks.0.weight, as codeformer.pth has"
            )
        tokens, dim_embd = state["position_emb"].shape
        if dim_embd % n_head:
            raise CheckpointError(
                f"{source}: a transformer of width {dim_embd} cannot have {n_head} heads", "Give its number as the option `n_head`"
            )
        tensors = dict(state)
        try:
            with torch.device("meta"):
                encoder, generator = build_blocks(state, "encoder", Downsample), build_blocks(state, "generator", Upsample)
                codes = tuple(state["quantize.embedding.weight"].shape)
                layers = count(state, r"ft_layers\.(\d+)\.")
                network = cls(encoder, generator, codes, dim_embd, n_head, layers, tokens)
                for side in sorted({key.split(".")[1] for key in state if key.startswith("fuse_convs_dict.")}, key=int):
                    network.fuse_convs_dict[side] = Fusion(len(state[f"fuse_convs_dict.{side}.scale.0.bias"]))
        except KeyError as error:
            raise CheckpointError(f"{source} lacks the tensor {error.args[0]} of a CodeFormer", "It is not whole: fetch it again") from None
        for place, block in enumerate(generator.blocks):
            if isinstance(block, Upsample):
                name = f"generator.blocks.{place}.conv.weight"
                tensors[name] = upsampling_kernel(tensors[name])
        return load_exactly(network.to_empty(device="cpu"), tensors, source)


def _encoder_places(blocks: list[nn.Module], size: int) -> dict[int, int]:
    """By block of the encoder: the side of the features that a fusion takes after it. It is the last residual block of each size; at the
    smallest, where the middle follows, the one of the same number."""
    first_down = next((place for place, block in enumerate(blocks) if isinstance(block, Downsample)), len(blocks))
    depth = sum(isinstance(block, ResidualBlock) for block in blocks[:first_down])
    places, number = {}, 0
    for place, block in enumerate(blocks):
        if isinstance(block, Downsample):
            size, number = size // 2, 0
        elif isinstance(block, ResidualBlock):
            number += 1
            if number == depth:
                places[place] = size
    return places


def _generator_places(blocks: list[nn.Module], side: int) -> dict[int, int]:
    """By block of the generator: the side at which a fusion follows. It is the first residual block of each size, and at the smallest,
    where the middle comes first, the last one."""
    places: dict[int, int] = {}
    for place, block in enumerate(blocks):
        if isinstance(block, Upsample):
            side *= 2
        elif isinstance(block, ResidualBlock) and (place < _first_upsample(blocks) or side not in places.values()):
            places = {at: value for at, value in places.items() if value != side} | {place: side}
    return places


def _first_upsample(blocks: list[nn.Module]) -> int:
    return next((place for place, block in enumerate(blocks) if isinstance(block, Upsample)), len(blocks))


def _with_statistics(content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """`content` with the mean and standard deviation of `style`, channel by channel (AdaIN; Huang and Belongie, ICCV 2017)."""
    variance, mean = torch.var_mean(content, (2, 3), keepdim=True)
    wanted, centre = torch.var_mean(style, (2, 3), keepdim=True)
    return (content - mean) / (variance + STATISTICS_EPS).sqrt() * (wanted + STATISTICS_EPS).sqrt() + centre

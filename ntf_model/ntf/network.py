"""The networks of both stages: an encoder and its heads."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ntf_model.data.data import DetectionData
from ntf_model.encoders.build import encoder_of
from ntf_model.encoders.crop import fit_to_pictures
from ntf_model.encoders.encoder import Encoder
from ntf_model.errors import InputError
from ntf_model.ntf.config import NTFConfig


def projection(before: int, after: int) -> nn.Sequential:
    """A projection head: an MLP of two layers (section 5.1)."""
    return nn.Sequential(nn.Linear(before, before), nn.ReLU(inplace=True), nn.Linear(before, after))


class TraceNetwork(nn.Module):
    """Stage 1: what all real pictures share (`hom`) apart from what is particular to one (`het`)."""

    def __init__(self, encoder: nn.Module, projection_dim: int):
        super().__init__()
        self.encoder = encoder
        self.hom = projection(encoder.dim, projection_dim)
        self.het = projection(encoder.dim, projection_dim)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised float `[M, 3, H, W]` to z_hom and z_het, `[M, projection_dim]` each, not normalised."""
        embedding = self.encoder(pixels)
        return self.hom(embedding), self.het(embedding)


class DetectionNetwork(nn.Module):
    """Stage 2: the auxiliary head, whose features meet the natural trace, and the classifier.

    The classifier reads the embedding; with `frozen` the encoder does not learn, and the classifier reads the projection, or the
    contrastive loss could not change a prediction.

    `standardise` takes the mean of each feature over real and fake away (and divides by its spread). Without it the trace pulls a network
    that cannot tell the classes apart yet to one point, fakes included, where Eq. 5 is ln |K| and gives no more gradient. It is not part of
    `forward`, because in training its statistics are those of the batch of all processes.
    """

    def __init__(self, encoder: nn.Module, projection_dim: int, frozen: bool = False):
        super().__init__()
        self.encoder, self.frozen = encoder, frozen
        self.aux = projection(encoder.dim, projection_dim)
        self.standardise = nn.BatchNorm1d(projection_dim, affine=False)
        self.classifier = nn.Linear(projection_dim if frozen else encoder.dim, 1)
        if frozen:
            encoder.requires_grad_(False)

    @classmethod
    def from_trace(cls, trace: TraceNetwork, frozen: bool) -> DetectionNetwork:
        """The student: it starts from the teacher's encoder. Its auxiliary head is fresh: the teacher's `hom` head maps every picture to
        nearly one point, from which the contrast gets no gradient."""
        return cls(copy.deepcopy(trace.encoder), trace.hom[-1].out_features, frozen)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised float `[N, 3, H, W]`, or embeddings `[N, dim]` that were kept, to features z `[N, projection_dim]`, not normalised,
        and logits `[N]`, positive for fake."""
        return self.heads(inputs if inputs.dim() == 2 else self.embed(inputs))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """The encoder's embedding `[N, dim]`; without gradients where the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.encoder(pixels)

    def heads(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features, not standardised, and logits of an embedding."""
        features = self.aux(embedding)
        return features, self.classifier(features if self.frozen else embedding).squeeze(1)

    def read(self, embedding: torch.Tensor) -> torch.Tensor:
        """What the classifier reads of an embedding `[N, dim]`: this itself, or with `frozen` its projection."""
        return self.aux(embedding) if self.frozen else embedding

    def train(self, mode: bool = True) -> DetectionNetwork:
        """A frozen encoder stays in eval mode: its BatchNorm statistics are frozen too."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def new_encoder(config: NTFConfig, data: DetectionData) -> Encoder:
    """The configuration's encoder before training, with a crop that suits the pictures of `data`. Raises InputError if it cannot be had, or
    cannot take the patches of stage 2."""
    encoder = fit_to_pictures(encoder_of(config), data, config.image_size, config.upscale)
    if config.stage2.patch:
        _check_patch(encoder, config.stage2.patch)
    return encoder


@torch.no_grad()
def _check_patch(encoder: Encoder, size: int) -> None:
    """Raises InputError if the encoder cannot take so small a picture: better before stage 1 than after it."""
    was_training = encoder.training
    try:
        encoder.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"the encoder {encoder.name!r} takes no patches of {size} px ({reason})", "Give a larger stage2.patch") from None
    finally:
        encoder.train(was_training)

"""What pulls a face swap by diffusion: the source's identity, and the target's expression, gaze and pixels.

Kim et al., "DiffFace: Diffusion-based Face Swapping with Facial Guidance" (2022), section 3.3. All of it is differentiable and works on a
batch of rows, each with its own loss; what does not change between steps is computed once, in `prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F

from generators.faces.masks import ellipse_mask
from generators.images import imagenet_normalise
from generators.networks.faces.arcface import ArcFace
from generators.networks.faces.bisenet import CLASSES, BiSeNet
from generators.networks.faces.gaze import GazeNet
from generators.networks.faces.warps import draw_warps, warp

FACE = (1, 2, 3, 4, 5, 10, 11, 12, 13)  # skin, brows, eyes, nose, mouth and lips, in the face parser's numbers
EYES = tuple(CLASSES.index(name) for name in ("left_eye", "right_eye"))
PARSER_SIZE, LOGIT_SIZE = 512, 256  # pixels: what the parser sees, and at which size its logits are compared
EYE_MARGIN_X, EYE_MARGIN_Y = 5, 9  # pixels around the corners of an eye, in an image of EYE_SCALE pixels
EYE_SCALE = 256

Mask = Literal["parser", "ellipse"]
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Weights:
    """How strongly each term pulls; the defaults are the official code's."""

    identity: float = 6000.0
    parsing: float = 200.0
    gaze: float = 200.0
    preservation: float = 50.0


@dataclass(frozen=True)
class Scene:
    """The constant side of the guidance, one row for each image: target pixels in [-1, 1] `[N, 3, S, S]` (or one channel, grey), the face's
    mask `[N, 1, S, S]`, the source's unit identity `[N, D]`, the target's parsing logits `[N, 9, 256, 256]` (None without a face parser),
    and for each row its eyes' boxes and gaze (none without a face parser and a gaze network)."""

    targets: torch.Tensor
    masks: torch.Tensor
    identities: torch.Tensor
    logits: torch.Tensor | None
    boxes: Sequence[Sequence[Box]]
    gazes: Sequence[Sequence[torch.Tensor]]

    def rows(self, index: Sequence[int]) -> Scene:
        """The rows `index`, which may repeat."""

        def pick(value: Any) -> Any:
            if value is None:
                return None
            return value[list(index)] if isinstance(value, torch.Tensor) else [value[row] for row in index]

        return Scene(*(pick(getattr(self, item.name)) for item in fields(self)))


class FaceGuidance:
    """The networks of the guidance; `gaze` normalises by the crop. Without a face parser there is no parsing term and a `prepare`d scene
    needs an ellipse for its mask; without it or without `gaze` there is no gaze term.

    Their BatchNorms are not folded: the sign of every pixel's parsing error enters the gradient, so that another rounding of the logits
    is another gradient (6e-4 of it instead of 1e-4), and the time of these networks is little beside the UNet's.
    """

    def __init__(self, arcface: ArcFace, parser: BiSeNet | None, gaze: GazeNet | None, copies: int = 8):
        self.arcface, self.parser, self.gaze = arcface, parser, gaze
        self.copies = copies  # of the face that the identity network sees: one as it is, the others warped
        self.copies_at_once = copies
        for network in (arcface, parser, gaze):
            if network is not None:
                network.eval().requires_grad_(False)

    def prepare(self, sources: torch.Tensor, targets: torch.Tensor, mask: Mask = "parser") -> Scene:
        """`sources` and `targets`: float `[N, 3, S, S]` in [-1, 1]. The mask is what the face parser calls the target's face, or
        the ellipse that a face fills in a tight crop."""
        masks = ellipse_mask(targets.shape[-1]).to(targets).expand(len(targets), -1, -1, -1)
        logits = None
        boxes: list[list[Box]] = [[] for _ in targets]
        gazes: list[list[torch.Tensor]] = [[] for _ in targets]
        if self.parser is not None:
            parsed = self.parse(targets)
            labels = F.interpolate(parsed, targets.shape[2:], mode="bilinear", align_corners=False).argmax(1)
            logits = parsed[:, FACE]
            if mask == "parser":
                masks = torch.isin(labels, torch.tensor(FACE, device=labels.device)).unsqueeze(1).to(targets)
            if self.gaze is not None:
                boxes = [eye_boxes(row) for row in labels]
                gazes = [[self.gaze_in(target, box) for box in row] for target, row in zip(targets, boxes, strict=True)]
        return Scene(targets, masks, self.identify(sources), logits, boxes, gazes)

    def identify(self, images: torch.Tensor) -> torch.Tensor:
        """Unit identity `[N, D]` of images in [-1, 1]."""
        return F.normalize(self.arcface(self._face_input(imagenet_normalise((images + 1) / 2))), dim=1)

    def parse(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, 19, 256, 256]` of images in [-1, 1]. The official code normalises twice, once by ImageNet and once to [-1, 1]; its
        guidance was tuned so."""
        assert self.parser is not None
        large = F.interpolate((images + 1) / 2, (PARSER_SIZE, PARSER_SIZE), mode="bilinear", align_corners=False)
        return F.interpolate(
            self.parser((imagenet_normalise(large) - 0.5) / 0.5), (LOGIT_SIZE, LOGIT_SIZE), mode="bilinear", align_corners=False
        )

    def gaze_in(self, image: torch.Tensor, box: Box) -> torch.Tensor:
        """Gaze `[2]` of the eye in `box` of one image `[3, S, S]` in [-1, 1]."""
        assert self.gaze is not None
        left, top, right, bottom = box
        eye = ((image[:, top:bottom, left:right] + 1) / 2).mean(0, keepdim=True)
        return self.gaze.look(eye)[0]

    def losses(
        self, images: torch.Tensor, scene: Scene, weights: Weights, rngs: Sequence[torch.Generator], with_gaze: bool
    ) -> dict[str, torch.Tensor]:
        """The weighed terms, each `[N]`, of images in [-1, 1]. Terms that weigh nothing are left out; without `rngs` no copy is warped."""
        terms: dict[str, torch.Tensor] = {}
        for name, part in self.parts(images, scene, weights, rngs, with_gaze):
            terms[name] = terms[name] + part if name in terms else part
        return terms

    def parts(
        self, images: torch.Tensor, scene: Scene, weights: Weights, rngs: Sequence[torch.Generator], with_gaze: bool
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The parts of the weighed terms, each `[N]`, with the term's name, one after the other. Whoever takes the gradient of one before
        asking for the next holds the maps of one network at a time."""
        if weights.identity:
            for share in self._identity_losses(images, scene, rngs):
                yield "identity", weights.identity * share
        if weights.parsing:
            distance = (self.parse(images)[:, FACE] - scene.logits).abs().mean((2, 3)).sum(1)
            yield "parsing", weights.parsing * distance
        if weights.gaze and with_gaze:
            yield "gaze", weights.gaze * self._gaze_loss(images, scene)
        if weights.preservation:
            yield "preservation", weights.preservation * (images - scene.targets).square().mean((1, 2, 3))

    def _identity_losses(self, images: torch.Tensor, scene: Scene, rngs: Sequence[torch.Generator]) -> Iterator[torch.Tensor]:
        """One minus the cosine to the source's identity, averaged over the copies: the shares of `copies_at_once` of them."""
        numbers = draw_warps(rngs, self.copies - 1) if rngs else None
        count = self.copies if rngs else 1
        for start in range(0, count, self.copies_at_once):
            stop = min(count, start + self.copies_at_once)
            faces = self._face_input(imagenet_normalise((images + 1) / 2) * scene.masks)
            copies = [faces.unsqueeze(1)] if start == 0 else []  # the first copy is the face as it is
            if numbers is not None and stop > 1:
                drawn = numbers[:, max(start, 1) - 1 : stop - 1]
                warped = warp(faces.repeat_interleave(drawn.shape[1], 0), drawn.flatten(0, 1))
                copies.append(warped.unflatten(0, (len(faces), -1)))
            identities = self.arcface(torch.cat(copies, 1).flatten(0, 1)).unflatten(0, (len(faces), -1))
            yield (1 - F.cosine_similarity(identities, scene.identities.unsqueeze(1), dim=-1)).sum(1) / count

    def _gaze_loss(self, images: torch.Tensor, scene: Scene) -> torch.Tensor:
        """Mean absolute difference of pitch and yaw, summed over both eyes; 0 where the target shows no eyes."""
        rows = []
        for image, boxes, wanted in zip(images, scene.boxes, scene.gazes, strict=True):
            terms = [F.l1_loss(self.gaze_in(image, box), gaze) for box, gaze in zip(boxes, wanted, strict=True)]
            rows.append(torch.stack(terms).sum() if terms else image.new_zeros(()))
        return torch.stack(rows)

    def _face_input(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.interpolate(pixels, (self.arcface.input_size, self.arcface.input_size), mode="nearest")


def eye_boxes(labels: torch.Tensor) -> list[Box]:
    """Boxes around both eyes of a label map `[S, S]`, or none if either eye is not seen.

    The original takes the corners of the eyes from face_alignment's 68 landmarks (36 and 39, 42 and 45), found anew at every step. The five
    landmarks of the detectors here tell an eye's centre and not its corners, so that they are the outermost pixels of what the face parser,
    which has looked at the target already, calls an eye. Margins, and the height between the two corners, are the original's.
    """
    size = labels.shape[-1]
    margin_x, margin_y = (max(1, round(margin * size / EYE_SCALE)) for margin in (EYE_MARGIN_X, EYE_MARGIN_Y))
    boxes = []
    for eye in EYES:
        rows, columns = torch.nonzero(labels == eye, as_tuple=True)
        if len(columns) == 0:
            return []
        left, right = int(columns.min()), int(columns.max())
        ends = [rows[columns == column].float().mean() for column in (left, right)]
        middle = int(sum(ends) / 2)
        box = (max(0, left - margin_x), max(0, middle - margin_y), min(size, right + margin_x), min(size, middle + margin_y))
        boxes.append(box)
    return boxes


def total(terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The sum of all terms over all rows, whose gradient is that of each row's own loss."""
    return torch.stack(list(terms.values())).sum()

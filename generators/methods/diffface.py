"""DiffFace (Kim et al. 2022): face swapping by a diffusion model that knows the source's identity, guided at every step.

A checkpoint is the identity-conditional guided-diffusion UNet (`Model.pt`, or safetensors under the same names) with three components:
`arcface` (SimSwap's ArcFace), `face_parser` (BiSeNet) and `gaze` (`GazeEstimator.pt`); or one safetensors file with the UNet under `unet.`
and its ArcFace under `arcface.`. The face parser and the gaze network may be left out by whoever asks for nothing of theirs: `mask:
ellipse`, `parsing: 0`, `gaze: 0`. A UNet of one channel makes grey images, of the targets' luminance.

What no shape tells comes from the checkpoint's options, or from the JSON under "config" in a safetensors header, by default as released:
`num_head_channels` (64; or `num_heads`), `norm_num_groups` (32), `image_size` (256), `crop` ("ffhq", or "aligned"), and
`arcface_input_size` (112) of an ArcFace in the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foreign.memory import release
from generators import base
from generators.base import Crop, Generator, Result
from generators.checkpoints import Checkpoint, read_weights
from generators.diffusers_files import to_device
from generators.errors import CheckpointError, InputError
from generators.faces.guidance import FaceGuidance, Mask, Scene, Weights
from generators.images import luminance, require_size, to_float, to_uint8
from generators.memory import batch_memory, is_out_of_memory
from generators.networks.diffusion import openai_names
from generators.networks.diffusion.recomputed import Recomputing
from generators.networks.diffusion.respaced import Respaced
from generators.networks.faces.arcface import ArcFace, load_arcface
from generators.networks.faces.bisenet import BiSeNet
from generators.networks.faces.gaze import load_gaze
from generators.networks.state import load_exactly
from generators.registry import register
from generators.seeding import randn_rows, torch_rng
from generators.transfer import send

Guide = Callable[[torch.Tensor, int], Iterable[torch.Tensor]]  # x in the place of x_0 and the step to losses, which are added up
Draw = Callable[[], torch.Tensor]  # standard normal noise for all rows
GAZE_STEPS = range(11, 50)  # of the 100 steps, those at which the official code guides the gaze
GAZE_OF = 100
FACES_AT_ONCE = 8  # that the identity network sees where it is not part of a step
COPIES_ON_A_CPU = 2  # of the face, that its identity network sees at once
LARGE = 128  # pixels a side, from which the maps of a step are worth saving on a CPU
# Of a candidate, for each pixel and channel of the UNet's widest map, its gradient included, in float32; 132 where the blocks run again
# (docs/benchmarks-generators.md).
BYTES_OF_A_CANDIDATE = 350
BYTES_OF_THE_PARSER = 200_000_000  # for each row, on top: the face parser sees 512 pixels a side
COMPONENTS = {
    "arcface": "Arcface.tar of hxngiee/DiffFace, or SimSwap's arcface_checkpoint.tar",
    "face_parser": "FaceParser.pth of hxngiee/DiffFace, or 79999_iter.pth of zllrunning/face-parsing.PyTorch",
    "gaze": "GazeEstimator.pt of hxngiee/DiffFace",
}


@register("diffface")
class DiffFace(Generator):
    title = "DiffFace"
    family = "DM"
    kinds = ("swap",)
    crop: Crop  # set by `load`
    released_precision = "float16"
    licence = "CC-BY-NC-4.0"
    networks = ("unet",)
    needs_gradients = True  # each step is guided by the gradient of the losses
    components = ("arcface", "face_parser", "gaze")
    batch_size = 2  # pairs; each has several candidates

    class Options(base.Options):
        """See the head of this file."""

        num_head_channels: int = -1
        num_heads: int = -1
        num_heads_upsample: int = -1
        use_new_attention_order: bool = False
        norm_num_groups: int = Field(32, ge=1)
        image_size: int = Field(256, ge=1)
        crop: str = "ffhq"
        arcface_input_size: int = Field(112, ge=1)

    class Parameters(base.Parameters):
        steps: int = Field(100, ge=2, le=1000, description="into how many steps the whole diffusion is divided")
        skip: int = Field(25, ge=0, description="of these, the noisiest that are left out: the swap begins from the noised target")
        candidates: int = Field(4, ge=1, le=64, description="swaps made of each pair; the one nearest to the source's identity is kept")
        ddim: bool = False  # deterministic steps; the official code then does not blend with the target before the end
        masking_threshold: int = Field(30, ge=0, description="steps before the end at which the face's mask is at full strength")
        identity: float = Field(Weights.identity, ge=0, description="weight of the identity term")
        parsing: float = Field(Weights.parsing, ge=0, description="weight of the face parsing term")
        gaze: float = Field(Weights.gaze, ge=0, description="weight of the gaze term")
        preservation: float = Field(Weights.preservation, ge=0, description="weight of the distance to the target's pixels")
        mask: Mask = "parser"  # what is swapped: the target's face as the face parser sees it, or the ellipse of a face in a tight crop

    def __init__(
        self, unet: nn.Module, id_embed: nn.Module, guidance: FaceGuidance, crop: Crop, device: str | torch.device, dtype: torch.dtype
    ):
        self.device = torch.device(device)
        self.unet = to_device(unet, device, dtype)
        # Each block can run again on the way back, so that its maps need not be kept: more time, and a fraction of the memory.
        self.recomputing = Recomputing(self.unet) if self.device.type == "cpu" and crop.size >= LARGE else None
        self.id_embed = to_device(id_embed, device, dtype)
        self.guidance = guidance
        self.guidance.copies_at_once = COPIES_ON_A_CPU if self.device.type == "cpu" else self.guidance.copies
        self.crop = crop
        self.dtype = dtype
        # Candidates; halved by itself when memory does not suffice. A CPU gains nothing by making large ones together, and one alone rounds
        # the same whatever memory is free.
        self.rows_at_once = 1 if self.recomputing else 8
        self.keeps_maps = True  # where there seems to be memory for them; false once there was not

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> DiffFace:
        contents = read_weights(checkpoint.path)
        settings = {**contents.config, **checkpoint.options}
        name = checkpoint.path.name
        unet, id_embed = load_networks(contents.under("unet.") or contents.tensors, settings, name)
        inside = contents.under("arcface.")
        if inside:
            arcface = ArcFace.from_state(inside, int(settings.get("arcface_input_size", 112)), name)
        elif "arcface" in checkpoint.components:
            arcface = load_arcface(checkpoint.components["arcface"])
        else:
            raise CheckpointError(f"diffface needs a component 'arcface' beside {name}", f"Give {COMPONENTS['arcface']} under `components`")
        parser, gaze = checkpoint.components.get("face_parser"), checkpoint.components.get("gaze")
        guidance = FaceGuidance(
            arcface.to(device),
            BiSeNet.from_state(read_weights(parser.path).tensors, parser.path.name).to(device) if parser else None,
            load_gaze(gaze, crop_statistics=True).to(device) if gaze else None,
        )
        return cls(unet, id_embed, guidance, Crop(settings.get("crop", "ffhq"), int(unet.config.sample_size)), device, dtype)

    @property
    def resolution(self) -> int:
        return self.crop.size

    def embed(self, identities: torch.Tensor) -> torch.Tensor:
        """What the UNet adds to its time embedding, `[N, E]`, of unit identities `[N, 512]`."""
        return self.id_embed(identities.to(self.dtype))

    @torch.inference_mode()
    def embed_faces(self, faces: np.ndarray) -> np.ndarray:
        parts = [faces[start : start + FACES_AT_ONCE] for start in range(0, len(faces), FACES_AT_ONCE)]
        return torch.cat([self.guidance.identify(to_float(part, device=self.device)) for part in parts]).float().cpu().numpy()

    def predict(self, x: torch.Tensor, timestep: float, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise in `x` and where its variance lies between the smallest and the largest, both float32 of the shape of `x`."""
        out = self.unet(x.to(self.dtype), torch.full((), float(timestep), device=x.device), class_labels=embedded).sample
        return out.float().chunk(2, dim=1)

    def walk(
        self,
        x: torch.Tensor,
        embedded: torch.Tensor,
        schedule: Respaced,
        first: int,
        draw: Draw,
        guide: Guide | None = None,
        blend: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
        ddim: bool = False,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The steps from `first` down to 0: at each, the sample before it and the x_0 that it points to.

        The network is evaluated once a step, for the mean and for the guidance alike.
        """
        for k in range(first, -1, -1):
            x, start = self.step(x, k, embedded, schedule, draw, guide, ddim)
            if blend is not None:
                x = blend(x, k)
            yield x, start

    def step(
        self, x: torch.Tensor, k: int, embedded: torch.Tensor, schedule: Respaced, draw: Draw, guide: Guide | None, ddim: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.set_grad_enabled(guide is not None):
            x = x.detach().requires_grad_(guide is not None)
            eps, interpolation = self.predict(x, schedule.timesteps[k], embedded)
            start = schedule.start(x, eps, k)
            gradient = None
            if guide is not None:
                share = schedule.noise_share(k)
                seen = start * share + x * (1 - share)
                # The graph of each loss is freed before the next one's is made, and all of them before the UNet's is walked.
                leaf = seen.detach().requires_grad_(True)
                pull = torch.zeros_like(leaf)
                for loss in guide(leaf, k):
                    if loss.requires_grad:  # the gaze of targets without eyes is a constant
                        pull += torch.autograd.grad(loss.sum(), leaf)[0]
                (gradient,) = torch.autograd.grad(seen, x, pull)
        x, start, interpolation = x.detach(), start.detach(), interpolation.detach()
        if ddim:
            if gradient is not None:  # Song et al. 2021, "Score-Based Generative Modeling": the score is conditioned
                start = schedule.start(x, schedule.eps(x, start, k) + schedule.noise_share(k) * gradient, k)
            return schedule.ddim(x, start, k), start
        mean, log_variance = schedule.posterior(x, start, interpolation, k)
        if gradient is not None:  # Sohl-Dickstein et al. 2015: the mean is shifted
            mean = mean - log_variance.exp() * gradient
        noise = draw()
        return (mean + (0.5 * log_variance).exp() * noise if k > 0 else mean), start

    def make(self, scene: Scene, settings: Parameters, rngs: Sequence[torch.Generator]) -> torch.Tensor:
        """One candidate for each row of `scene`, of the shape of its targets: in [-1, 1], not clamped, with the target around the face."""
        schedule = Respaced(settings.steps)
        walked = settings.steps - settings.skip
        weights = Weights(settings.identity, settings.parsing, settings.gaze, settings.preservation)

        def draw() -> torch.Tensor:
            return send(randn_rows(rngs, scene.targets.shape[1:]), self.device)

        def guide(images: torch.Tensor, k: int) -> Iterator[torch.Tensor]:
            with_gaze = k * GAZE_OF // settings.steps in GAZE_STEPS
            return (loss for _, loss in self.guidance.parts(images, scene, weights, rngs, with_gaze))

        def blend(x: torch.Tensor, k: int) -> torch.Tensor:
            soft = scene.masks * mask_strength(k, walked, settings.masking_threshold)
            return x * soft + schedule.noised(scene.targets, k, draw()) * (1 - soft)

        x = schedule.noised(scene.targets, walked - 1, draw())
        guided = any((weights.identity, weights.parsing, weights.gaze, weights.preservation))
        steps = self.walk(
            x,
            self.embed(scene.identities),
            schedule,
            first=walked - 1,
            draw=draw,
            guide=guide if guided else None,
            blend=None if settings.ddim else blend,
            ddim=settings.ddim,
        )
        swap = scene.targets
        for _, start in steps:
            swap = start  # what the last step points to is kept
        return composite(swap, scene)

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Parameters) -> Result:
        if settings.skip >= settings.steps:
            raise InputError(f"diffface: skip {settings.skip} leaves none of {settings.steps} steps", "Make skip smaller")
        for images in (sources, targets):
            require_size(images, self.resolution, self.name)
        self._require_networks(settings)
        target_pixels = to_float(targets, device=self.device)
        if self.unet.config.in_channels == 1:
            target_pixels = luminance(target_pixels)
        scene = self.guidance.prepare(to_float(sources, device=self.device), target_pixels, settings.mask)
        pictures = self._candidates(scene, seeds, settings)
        faces = to_float(pictures.reshape(-1, *pictures.shape[2:]), device=self.device)
        identities = torch.cat([self.guidance.identify(part) for part in faces.split(FACES_AT_ONCE)])
        wanted = scene.identities.repeat_interleave(settings.candidates, 0)
        similarity = F.cosine_similarity(identities, wanted).view(-1, settings.candidates).cpu().numpy()
        best = similarity.argmax(1)
        rows = np.arange(len(best))
        empty = (scene.masks.flatten(1).sum(1) == 0).nonzero().flatten().tolist()
        return Result(
            pictures[rows, best],
            {row: "the face parser finds no face in the target" for row in empty},
            {"candidate": best.tolist(), "identity_similarity": similarity[rows, best].tolist()},
        )

    def _require_networks(self, settings: Parameters) -> None:
        """InputError if `settings` ask for a network that the checkpoint came without."""
        lacks = {"face_parser": self.guidance.parser is None, "gaze": self.guidance.gaze is None}
        needs = {
            "mask: ellipse": (settings.mask == "parser", ("face_parser",)),
            "parsing: 0": (settings.parsing > 0, ("face_parser",)),
            "gaze: 0": (settings.gaze > 0, ("face_parser", "gaze")),
        }
        for without, (wanted, roles) in needs.items():
            for role in roles:
                if wanted and lacks[role]:
                    raise InputError(
                        f"diffface has no component {role!r}", f"Give {COMPONENTS[role]} under `components`, or set `{without}`"
                    )

    def fit_memory(self) -> int:
        """How many candidates memory allows together; one where it does not suffice, which is then tried. From now on blocks run again
        where memory does not suffice for all their maps."""
        fit = batch_memory(self.device) // self._bytes_of_a_candidate()
        rows = self.rows_at_once if self.exact else max(1, min(self.rows_at_once, fit))
        if self.recomputing:
            self.recomputing.turn(not self.keeps_maps or fit < rows)
        return rows

    def _bytes_of_a_candidate(self) -> int:
        """What a candidate takes where all its maps are kept."""
        numbers = self.resolution**2 * int(self.unet.config.block_out_channels[0])
        maps = BYTES_OF_A_CANDIDATE * numbers * self.dtype.itemsize // torch.float32.itemsize
        return maps + BYTES_OF_THE_PARSER * (self.guidance.parser is not None)

    def _candidates(self, scene: Scene, seeds: Sequence[int], settings: Parameters) -> np.ndarray:
        """All candidates of all pairs, `uint8` `[N, candidates, S, S, 3]`, as many at once as fit in memory."""
        jobs = [(pair, candidate) for pair in range(len(seeds)) for candidate in range(settings.candidates)]
        pictures: list[np.ndarray] = []
        while len(pictures) < len(jobs):
            part = jobs[len(pictures) : len(pictures) + self.fit_memory()]
            rngs = [torch_rng(seeds[pair], f"candidate {candidate}") for pair, candidate in part]
            try:
                pictures += list(to_uint8(self.make(scene.rows([pair for pair, _ in part]), settings, rngs), rounding="floor"))
                continue
            except Exception as error:
                can_recompute = self.recomputing is not None and not self.recomputing.on
                can_halve = len(part) > 1 and not self.exact  # which changes rounding, as running blocks again does not
                if not (can_recompute or can_halve) or not is_out_of_memory(error):
                    raise
            if can_recompute:
                self.keeps_maps = False
            else:
                self.rows_at_once = len(part) // 2
            release()
        return np.stack(pictures).reshape(len(seeds), settings.candidates, *pictures[0].shape)


def load_networks(state: Mapping[str, torch.Tensor], settings: dict[str, Any], source: str) -> tuple[nn.Module, nn.Module]:
    """The UNet and the network that embeds the identity. Raises CheckpointError if `state` is not DiffFace's."""
    mark = "id_embed."
    if f"{mark}0.weight" not in state:
        raise CheckpointError(f"{source} is not DiffFace's UNet", "It should have id_embed.0.weight beside guided-diffusion's tensors")
    first, last = state[f"{mark}0.weight"], state[f"{mark}2.weight"]
    id_embed = nn.Sequential(nn.Linear(first.shape[1], len(first)), nn.SiLU(), nn.Linear(last.shape[1], len(last)))
    load_exactly(id_embed, {key.removeprefix(mark): value for key, value in state.items() if key.startswith(mark)}, source)
    own = {key: value for key, value in state.items() if not key.startswith(mark)}
    heads = openai_names.heads_of(settings)
    groups = int(settings.get("norm_num_groups", 32))
    # diffusers adds "class labels" of this type to the time embedding as they are, which is how DiffFace adds its identity.
    config = {"class_embed_type": "identity", "norm_num_groups": groups, "attn_norm_num_groups": groups}
    return openai_names.build(own, int(settings.get("image_size", 256)), heads, source, **config), id_embed


def mask_strength(k: int, walked: int, threshold: int) -> float:
    """How much of the swap the mask lets through at step `k`: from nothing at the first of `walked` steps to all of it
    `threshold` before the end."""
    return min(1.0, (walked - (k + 1)) / max(1, walked - threshold))


def composite(start: torch.Tensor, scene: Scene) -> torch.Tensor:
    """The swapped face inside the target's mask, the target outside."""
    return scene.targets * (1 - scene.masks) + start * scene.masks

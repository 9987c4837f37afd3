"""Janus and Janus-Pro (Chen et al., "Janus-Pro", 2025): an autoregressive model that writes a picture token by token, through transformers.

A checkpoint is a folder as transformers saves a JanusForConditionalGeneration with its tokenizer, or its Hub repository
(deepseek-community/Janus-Pro-1B, deepseek-community/Janus-Pro-7B). Option `template`: how a prompt is put, by default the official form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from foreign.json_files import read_json
from generators import base
from generators.base import Generator, Output
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.images import fetch_uint8
from generators.networks.vq.gpt import are_finite, keep_likely, marked
from generators.quiet import libraries_quiet
from generators.registry import register
from generators.seeding import torch_rng
from generators.transfer import send

TEMPLATE = "<|User|>: {prompt}\n\n<|Assistant|>:"
BEGIN_OF_IMAGE = "<begin_of_image>"
FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]


@register("janus")
class Janus(Generator):
    title = "Janus"
    family = "AR"
    kinds = ("prompt",)
    licence = "DeepSeek Model License (code: MIT)"
    networks = ("model.model.language_model",)
    batch_size = 4

    class Options(base.Options):
        template: str = Field(TEMPLATE, description="how a prompt is put")

    class Parameters(base.Parameters):
        guidance_scale: float = Field(5.0, ge=1, description="how far beyond the unguided prediction; 1 is no guidance")
        temperature: float = Field(1.0, gt=0, description="below 1 the likelier tokens become likelier still")
        top_k: int | None = Field(None, ge=1, description="only the likeliest so many tokens; all by default")

    def __init__(self, model: Any, tokenizer: Any, template: str, begin: int, device: str | torch.device):
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.template = template
        self.begin = begin  # the token after which a picture follows
        self.device = torch.device(device)

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Janus:
        from transformers import AutoTokenizer, JanusForConditionalGeneration

        folder = _folder(checkpoint)
        template = checkpoint.option("template", TEMPLATE)
        if "{prompt}" not in template:
            raise InputError(f"{checkpoint.path.name}: the template {template!r} has no place for the prompt", "Put {prompt} into it")
        try:
            with libraries_quiet():
                model = JanusForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise CheckpointError(
                f"{folder} is no Janus model ({reason})", "Save it again with `save_pretrained`, tokenizer included"
            ) from None
        begin = _begin_of_image(folder, tokenizer)
        return cls(model, tokenizer, template, begin, device)

    @property
    def resolution(self) -> int:
        vq = self.model.config.vq_config
        return round(self.tokens**0.5) * 2 ** (len(vq.channel_multiplier) - 1)

    @property
    def tokens(self) -> int:
        """How many tokens a picture has."""
        return int(self.model.model.vision_model.config.num_image_tokens)

    def _prompt(self, prompts: list[str], seeds: list[int], settings: Parameters) -> Output:
        rngs = [torch_rng(seed) for seed in seeds]
        ids, mask = self._tokenised(prompts)
        embeds, past, drawn = self.model.get_input_embeddings()(ids), None, []
        whole = torch.ones(len(seeds), dtype=torch.bool, device=self.device)
        for _ in range(self.tokens):
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
            output = self.model.model.language_model(
                inputs_embeds=embeds, attention_mask=mask, position_ids=places, past_key_values=past, use_cache=True
            )
            past = output.past_key_values
            logits = self.model.model.generation_head(output.last_hidden_state[:, -1]).float()
            whole &= are_finite(logits).view(2, -1).all(0)
            chosen = self._drawn(logits, rngs, settings)
            drawn.append(chosen)
            embeds = self.model.prepare_embeddings_for_image_generation(torch.cat([chosen, chosen])[:, None])
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        pixels = self.model.decode_image_tokens(torch.stack(drawn, 1)).permute(0, 3, 1, 2)
        return fetch_uint8(marked(pixels, whole))

    def _tokenised(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids `[2N, L]`, padded at the left, and their mask: first the prompts, then the same without a word (for guidance)."""
        generation = self.model.generation_config
        begin, pad = self.begin, generation.pad_token_id
        rows = [[*self.tokenizer(self.template.format(prompt=prompt)).input_ids, begin] for prompt in prompts]
        length = max(len(row) for row in rows)
        ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=self.device)
        wordless = torch.where((ids == begin) | (ids == generation.bos_token_id), ids, pad)
        return torch.cat([ids, wordless]), torch.cat([mask, mask])

    def _drawn(self, logits: torch.Tensor, rngs: list[torch.Generator], settings: Parameters) -> torch.Tensor:
        """One token for each image `[N]`, by Gumbel noise from the image's own generator; `logits` are those with and without prompt."""
        within, without = logits.chunk(2)
        scores = keep_likely((without + settings.guidance_scale * (within - without)) / settings.temperature, settings.top_k)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=rng, dtype=torch.float64) for rng in rngs])
        return (scores + send(-(-uniform.log()).log().float(), scores.device)).argmax(1)


def _begin_of_image(folder: Path, tokenizer: Any) -> int:
    """The number of the token that begins a picture: from generation_config.json, or by its name. CheckpointError if neither says it.

    transformers drops what the file says of it, because it is not a setting that all models have.
    """
    file = folder / "generation_config.json"
    stated = read_json(file).get("generation_kwargs", {}) if file.is_file() else {}
    number = stated.get("boi_token_id", tokenizer.get_vocab().get(BEGIN_OF_IMAGE))
    if not isinstance(number, int):
        raise CheckpointError(f"{folder} does not name the token that begins a picture", f"Its tokenizer should have {BEGIN_OF_IMAGE}")
    return number


def _folder(checkpoint: Checkpoint) -> Path:
    """The local folder of the model. What reads `owner/name` and is not on this disk comes from the Hub: no code, no pickles."""
    path = checkpoint.path
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or len(path.parts) != 2:
        raise CheckpointError(f"{path} is no folder of a transformers model", "It should hold a config.json")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path.as_posix(), revision=checkpoint.option("revision"), allow_patterns=FILES))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(
            f"{path.as_posix()} is neither on this disk nor to be had from the Hub ({reason})", "Go online, or fetch it with `ntf fetch`"
        ) from None

"""What the pictures show, in words, and a tokenizer for as many words as that takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import torch

from generators.demo.pictures import Picture

# What the demo's photographs show, two or three ways each. They are seen in cells of a third of their height or less, so that not every
# cell shows what its caption names.
SUBJECTS: Mapping[str, Sequence[str]] = {
    "astronaut": ("a smiling astronaut", "an astronaut in an orange suit"),
    "chelsea": ("a cat", "a ginger cat", "the fur of a cat"),
    "coffee": ("a cup of coffee", "coffee on a wooden table"),
    "rocket": ("a rocket on its launch pad", "a rocket before sunrise"),
    "hubble": ("a night sky full of galaxies", "galaxies in deep space"),
    "retina": ("a retina", "blood vessels of the eye"),
    "ihc": ("stained tissue under a microscope", "blue and brown cells of stained tissue"),
    "china": ("a temple roof in China", "an old temple in China"),
    "flower": ("a red flower", "a flower in the garden"),
}
TEMPLATES = ("{}", "a photograph of {}", "a picture of {}", "a close view of {}")
MAX_TOKENS = 16  # of a caption, its beginning and end included
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def captions_of(picture: Picture) -> list[str]:
    """Captions of a picture, the plainest first. A picture that is not the demo's is called by its subfolder, or else by its own name."""
    own = PurePosixPath(picture.identity or picture.photograph).stem
    subjects = SUBJECTS.get(picture.photograph, (own.replace("-", " ").replace("_", " "),))
    return [template.format(subject) for template in TEMPLATES for subject in subjects]


def learn_vocabulary(captions: Sequence[str]) -> dict[str, Any]:
    """A byte pair encoding in CLIP's form, in which every word of `captions` is one token and any other English word is spelt:
    `vocab`, `merges` and `model_max_length`, as CLIPTokenizer calls them."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # `vocab_size` is never reached: training ends when every word is one token. Single letters are tokens too, so that other words can be
    # spelt.
    words = sorted({word for caption in captions for word in caption.split()})
    trainer = BpeTrainer(
        vocab_size=100_000, min_frequency=1, special_tokens=[*SPECIAL, *ALPHABET, *(f"{letter}</w>" for letter in ALPHABET)],
        end_of_word_suffix="</w>", show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(words, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    return {"vocab": learnt["vocab"], "merges": learnt["merges"], "model_max_length": MAX_TOKENS}


def tokens_of(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    """int64 `[N, length]`, as Stable Diffusion's pipeline gives them to its text encoder."""
    length = tokenizer.model_max_length
    return tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids

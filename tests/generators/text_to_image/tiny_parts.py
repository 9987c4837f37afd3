"""Text encoders and autoencoders that small random pipelines of several families share, beside those of `tiny_families`."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
WIDTH = 16  # of what the decoder-only encoders give
CHAT = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}<|im_start|>"


def byte_tokenizer(*prefix: str, chat: bool = False) -> Any:
    """A tokenizer whose tokens are bytes. `prefix` are special tokens that begin every text, so that an empty one has tokens too."""
    tokens = [*BYTES, "<|endoftext|>", "<|im_start|>", "<|im_end|>", *prefix]
    inner = Tokenizer(models.BPE({token: row for row, token in enumerate(tokens)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if prefix:
        specials = [(token, tokens.index(token)) for token in prefix]
        inner.post_processor = processors.TemplateProcessing(single=f"{' '.join(prefix)} $A", special_tokens=specials)
    end = "<|endoftext|>"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=end, eos_token=end, padding_side="left", model_max_length=2048
    )
    tokenizer.chat_template = CHAT if chat else None
    return tokenizer


def qwen_tokenizer() -> Any:
    tokenizer = transformers.Qwen2Tokenizer({token: row for row, token in enumerate([*BYTES, "<|endoftext|>"])}, [], model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def decoder_shape(layers: int = 2) -> dict[str, Any]:
    shape = {"vocab_size": 300, "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": layers, "num_attention_heads": 2}
    return {**shape, "num_key_value_heads": 1, "pad_token_id": 256, "bos_token_id": 256, "eos_token_id": 256}


def qwen3(cls: Any, layers: int = 2) -> Any:
    return cls(transformers.Qwen3Config(head_dim=8, **decoder_shape(layers))).eval()


def qwen_vision() -> Any:
    """Qwen 2.5 VL, which Qwen-Image and LongCat-Image read their prompts with."""
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen2_5_VLConfig(text_config={**decoder_shape(), "rope_parameters": rope}, vision_config=vision)
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def gemma() -> tuple[Any, Any]:
    """Gemma 2 and a tokenizer that falls back to bytes."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581", "\n", *(f"<0x{code:02X}>" for code in range(256)), *map(chr, range(97, 123))]
    tokenizer = transformers.GemmaTokenizer({token: row for row, token in enumerate(tokens)}, model_max_length=2048)
    shape = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.Gemma2Config(vocab_size=len(tokenizer) + 8, head_dim=8, **shape)
    return transformers.Gemma2Model(config).eval(), tokenizer


def dc(levels: int = 4) -> Any:
    """The autoencoder of Sana, which divides by 2 to the number of levels less one and has one code for each image."""
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides[f"{side}_block_out_channels"] = (8,) * levels
        sides[f"{side}_block_types"] = ("ResBlock",) * levels
        sides[f"{side}_layers_per_block"] = (1,) * levels
        sides[f"{side}_qkv_multiscales"] = ((),) * levels
    return diffusers.AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.4, **sides).eval()


def unet(**settings: Any) -> Any:
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    shape = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2}
    return diffusers.UNet2DConditionModel(**{**blocks, **shape, "cross_attention_dim": WIDTH, **settings}).eval()


def flow(**settings: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


def betas(cls: Any, **settings: Any) -> Any:
    return cls(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **settings)


def network(value: torch.nn.Module) -> Any:
    return value.eval()

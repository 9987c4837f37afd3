"""Small random pipelines of further families that diffusers has, which no line of the generator was written for."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers

from tests.generators.text_to_image.tiny_families import FAMILIES as FIRST
from tests.generators.text_to_image.tiny_families import LETTERS, T5_WIDTH, kl, t5
from tests.generators.text_to_image.tiny_parts import WIDTH, betas, dc, decoder_shape, flow, gemma, network, qwen3, qwen_tokenizer
from tests.generators.text_to_image.tiny_released import FAMILIES as RELEASED
from tests.generators.text_to_image.tiny_released import FLUX_LIKE, NO_CHECKER, qwen_image, sana_transformer


def chroma() -> Any:
    sizes = {"approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1, "axes_dims_rope": (2, 2, 4)}
    transformer = diffusers.ChromaTransformer2DModel(joint_attention_dim=T5_WIDTH, **FLUX_LIKE, **sizes)
    text, tokenizer = t5()
    return diffusers.ChromaPipeline(flow(), kl(2, shift_factor=0.1, scaling_factor=0.4), text, tokenizer, network(transformer))


def cogview3() -> Any:
    shape = {"sample_size": 32, "in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    transformer = diffusers.CogView3PlusTransformer2DModel(text_embed_dim=T5_WIDTH, time_embed_dim=16, condition_dim=8, **shape)
    text, tokenizer = t5()
    scheduler = betas(diffusers.CogVideoXDDIMScheduler, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    return diffusers.CogView3PlusPipeline(tokenizer, text, kl(2), network(transformer), scheduler)


def hunyuan_dit() -> Any:
    """Two text encoders that read the same prompt, a BERT and a T5."""
    sizes = {"cross_attention_dim": WIDTH, "cross_attention_dim_t5": T5_WIDTH, "pooled_projection_dim": 16, "hidden_size": 16}
    shape = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    transformer = diffusers.HunyuanDiT2DModel(text_len=77, text_len_t5=256, **sizes, **shape)
    words = {token: row for row, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS)])}
    config = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **config)).eval()
    long, pieces = t5()
    parts = {"text_encoder_2": long, "tokenizer_2": pieces}
    tokenizer = transformers.BertTokenizer(words, model_max_length=77)
    return diffusers.HunyuanDiTPipeline(kl(4), text, tokenizer, network(transformer), betas(diffusers.DDPMScheduler), **NO_CHECKER, **parts)


def lumina2() -> Any:
    shape = {"sample_size": 16, "in_channels": 4, "hidden_size": 16, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 2}
    sizes = {"num_kv_heads": 1, "multiple_of": 8, "axes_dim_rope": (4, 2, 2), "axes_lens": (300, 64, 64), "cap_feat_dim": WIDTH}
    text, tokenizer = gemma()
    vae = kl(4, shift_factor=0.1, scaling_factor=0.4)
    return diffusers.Lumina2Pipeline(network(diffusers.Lumina2Transformer2DModel(**shape, **sizes)), flow(shift=6.0), vae, text, tokenizer)


def kandinsky3() -> Any:
    """A UNet of its own, and an autoencoder with a codebook, which is always taken to divide by 8."""
    shape = {"time_embedding_dim": 16, "groups": 2, "attention_head_dim": 4, "layers_per_block": 2, "block_out_channels": (16, 16, 16, 16)}
    network_ = diffusers.Kandinsky3UNet(cross_attention_dim=WIDTH, encoder_hid_dim=T5_WIDTH, **shape)
    text, tokenizer = t5()
    scheduler = diffusers.DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="squaredcos_cap_v2", thresholding=False)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {
        "block_out_channels": (32, 32, 32, 32),
        "num_vq_embeddings": 16,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "vq_embed_dim": 4,
    }
    vq = diffusers.VQModel(norm_type="spatial", **blocks, **widths)
    return diffusers.Kandinsky3Pipeline(tokenizer, text, network(network_), scheduler, network(vq))


def sana_sprint() -> Any:
    """Distilled to a few steps of its own schedule."""
    text, tokenizer = gemma()
    return diffusers.SanaSprintPipeline(
        tokenizer, text, dc(), sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads"), diffusers.SCMScheduler()
    )


def krea2() -> Any:
    """Qwen 3 VL, of which two layers are read, and the autoencoder of Qwen-Image."""
    attention = {"attention_head_dim": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24, "num_text_layers": 2}
    of_text = {"text_num_attention_heads": 2, "text_num_key_value_heads": 1, "text_intermediate_size": 24, "text_hidden_dim": WIDTH}
    sizes = {"num_layers": 1, "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1, "timestep_embed_dim": 16}
    transformer = diffusers.Krea2Transformer2DModel(in_channels=16, axes_dims_rope=(2, 2, 4), **attention, **of_text, **sizes)
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    sight = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "deepstack_visual_indexes": [0],
    }
    reads = {**decoder_shape(), "head_dim": 8, "rope_parameters": rope}
    text = transformers.Qwen3VLModel(transformers.Qwen3VLConfig(text_config=reads, vision_config=sight)).eval()
    parts = (qwen_image().vae, text, qwen_tokenizer(), network(transformer))
    return diffusers.Krea2Pipeline(flow(use_dynamic_shifting=True), *parts, text_encoder_select_layers=(1, 2))


def ovis() -> Any:
    shape = {**FLUX_LIKE, "out_channels": 16}
    transformer = diffusers.OvisImageTransformer2DModel(joint_attention_dim=WIDTH, axes_dims_rope=(2, 2, 4), **shape)
    vae = kl(2, shift_factor=0.1, scaling_factor=0.4)
    text = qwen3(transformers.Qwen3Model)
    return diffusers.OvisImagePipeline(flow(shift=3.0, use_dynamic_shifting=True), vae, text, qwen_tokenizer(), network(transformer))


def bria() -> Any:
    transformer = diffusers.BriaTransformer2DModel(joint_attention_dim=T5_WIDTH, axes_dims_rope=(0, 4, 4), **FLUX_LIKE)
    text, tokenizer = t5()
    return diffusers.BriaPipeline(network(transformer), flow(shift=3.0), kl(2), text, tokenizer)


FAMILIES = {
    "chroma": chroma,
    "cogview3": cogview3,
    "hunyuan-dit": hunyuan_dit,
    "lumina2": lumina2,
    "kandinsky3": kandinsky3,
    "sana-sprint": sana_sprint,
    "krea2": krea2,
    "ovis": ovis,
    "bria": bria,
}
ALL = {**FIRST, **RELEASED, **FAMILIES}

"""Small random pipelines of the families that most released checkpoints belong to, beside those of `tiny_families`.

Each function builds one, and `FAMILIES` names them. Depth, width and the autoencoder's factor are not those of the releases; the classes,
the scheduler and the arguments of the call are.
"""

from __future__ import annotations

from typing import Any

import diffusers
import transformers

from tests.generators.text_to_image.tiny_families import CLIP_WIDTH, T5_WIDTH, clip, kl, t5
from tests.generators.text_to_image.tiny_parts import (
    WIDTH,
    betas,
    byte_tokenizer,
    dc,
    decoder_shape,
    flow,
    gemma,
    network,
    qwen3,
    qwen_tokenizer,
    qwen_vision,
    unet,
)

NO_CHECKER: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
FLUX_LIKE: dict[str, Any] = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}


def sd15() -> Any:
    text, tokenizer = clip()
    scheduler = betas(diffusers.PNDMScheduler, skip_prk_steps=True, steps_offset=1)
    return diffusers.StableDiffusionPipeline(kl(2), text, tokenizer, unet(), scheduler, **NO_CHECKER)


def sd21() -> Any:
    """Predicts velocities."""
    text, tokenizer = clip()
    scheduler = betas(diffusers.DDIMScheduler, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return diffusers.StableDiffusionPipeline(kl(2), text, tokenizer, unet(use_linear_projection=True), scheduler, **NO_CHECKER)


def sdxl() -> Any:
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 48 + CLIP_WIDTH}
    (first, tokenizer), (second, other) = clip(), clip(True)
    scheduler = betas(diffusers.EulerDiscreteScheduler, timestep_spacing="leading", steps_offset=1)
    denoiser = unet(cross_attention_dim=2 * CLIP_WIDTH, **sizes)
    return diffusers.StableDiffusionXLPipeline(kl(2), first, second, tokenizer, other, denoiser, scheduler)


def lcm() -> Any:
    text, tokenizer = clip()
    denoiser = unet(time_cond_proj_dim=16)
    return diffusers.LatentConsistencyModelPipeline(kl(2), text, tokenizer, denoiser, betas(diffusers.LCMScheduler), **NO_CHECKER)


def flux_dev() -> Any:
    """Guidance is an input of its transformer, and the schedule shifts with the size."""
    sizes = {"joint_attention_dim": T5_WIDTH, "pooled_projection_dim": CLIP_WIDTH, "axes_dims_rope": (2, 2, 4)}
    transformer = diffusers.FluxTransformer2DModel(guidance_embeds=True, **FLUX_LIKE, **sizes)
    (text, tokenizer), (long, pieces) = clip(), t5()
    parts = {"text_encoder": text, "tokenizer": tokenizer, "text_encoder_2": long, "tokenizer_2": pieces}
    vae = kl(2, shift_factor=0.1, scaling_factor=0.4)
    return diffusers.FluxPipeline(transformer=network(transformer), vae=vae, scheduler=flow(shift=3.0, use_dynamic_shifting=True), **parts)


def flux2_klein() -> Any:
    """Its text encoder is read at layers 9, 18 and 27."""
    sizes = {"joint_attention_dim": 3 * WIDTH, "axes_dims_rope": (2, 2, 2, 2), "timestep_guidance_channels": 16}
    transformer = diffusers.Flux2Transformer2DModel(guidance_embeds=False, **FLUX_LIKE, **sizes)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (4, 8)}
    vae = diffusers.AutoencoderKLFlux2(latent_channels=4, norm_num_groups=2, layers_per_block=1, **blocks)
    parts = {"text_encoder": qwen3(transformers.Qwen3ForCausalLM, 28), "tokenizer": qwen_tokenizer(), "vae": network(vae)}
    scheduler = flow(shift=3.0, use_dynamic_shifting=True)
    return diffusers.Flux2KleinPipeline(transformer=network(transformer), scheduler=scheduler, is_distilled=True, **parts)


def pixart_alpha() -> Any:
    shape = {"sample_size": 32, "num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    transformer = diffusers.PixArtTransformer2DModel(cross_attention_dim=16, caption_channels=T5_WIDTH, **shape)
    text, tokenizer = t5()
    return diffusers.PixArtAlphaPipeline(tokenizer, text, kl(2), network(transformer), diffusers.DPMSolverMultistepScheduler())


def sana_transformer(**settings: Any) -> Any:
    heads = {"num_attention_heads": 2, "attention_head_dim": 8, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8}
    shape = {"in_channels": 4, "out_channels": 4, "num_layers": 1, "sample_size": 32, "caption_channels": WIDTH, "cross_attention_dim": 16}
    return network(diffusers.SanaTransformer2DModel(**shape, **heads, **settings))


def sana() -> Any:
    text, tokenizer = gemma()
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return diffusers.SanaPipeline(tokenizer, text, dc(), sana_transformer(), scheduler)


def auraflow() -> Any:
    shape = {"sample_size": 8, "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16, "pos_embed_max_size": 1024}
    transformer = diffusers.AuraFlowTransformer2DModel(num_mmdit_layers=1, num_single_dit_layers=1, joint_attention_dim=T5_WIDTH, **shape)
    _, tokenizer = t5()
    config = transformers.UMT5Config(vocab_size=64, d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    text = transformers.UMT5EncoderModel(config).eval()
    return diffusers.AuraFlowPipeline(tokenizer, text, kl(2), network(transformer), flow(shift=1.7))


def cogview4() -> Any:
    shape = {"sample_size": 32, "in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    transformer = diffusers.CogView4Transformer2DModel(text_embed_dim=WIDTH, time_embed_dim=16, condition_dim=8, **shape)
    text = transformers.GlmModel(transformers.GlmConfig(head_dim=8, **decoder_shape())).eval()
    scheduler = flow(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    return diffusers.CogView4Pipeline(byte_tokenizer("[gMASK]", "<sop>"), text, kl(2), network(transformer), scheduler)


def qwen_image() -> Any:
    """Its autoencoder is one of video: latents and pixels have a dimension for time."""
    shape = {**FLUX_LIKE, "out_channels": 4}
    del shape["num_single_layers"]
    transformer = diffusers.QwenImageTransformer2DModel(joint_attention_dim=WIDTH, axes_dims_rope=(2, 2, 4), **shape)
    layers = {"dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [False], "latents_mean": [0.1] * 4, "latents_std": [1.5] * 4}
    vae = network(diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=4, **layers))
    scheduler = flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02)
    return diffusers.QwenImagePipeline(scheduler, vae, qwen_vision(), qwen_tokenizer(), network(transformer))


def z_image() -> Any:
    shape = {"in_channels": 4, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [4, 6, 6]}
    transformer = network(diffusers.ZImageTransformer2DModel(cap_feat_dim=WIDTH, **shape))
    vae = kl(2, shift_factor=0.1, scaling_factor=0.4)
    return diffusers.ZImagePipeline(flow(shift=3.0), vae, qwen3(transformers.Qwen3Model), qwen_tokenizer(), transformer)


FAMILIES = {
    "sd15": sd15,
    "sd21": sd21,
    "sdxl": sdxl,
    "lcm": lcm,
    "flux-dev": flux_dev,
    "flux2-klein": flux2_klein,
    "pixart-alpha": pixart_alpha,
    "sana": sana,
    "auraflow": auraflow,
    "cogview4": cogview4,
    "qwen-image": qwen_image,
    "z-image": z_image,
}

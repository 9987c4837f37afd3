"""Small random diffusion models, and the folders and files that their releases would come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.checkpoints import Checkpoint, write_safetensors
from generators.training.diffusion.ddpm import plain_config

BLOCKS = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def pixel_unet(channels: int = 3, size: int = 16) -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    sizes = {"sample_size": size, "in_channels": channels, "out_channels": channels, "block_out_channels": (8, 16)}
    return UNet2DModel(**sizes, **BLOCKS, layers_per_block=1, norm_num_groups=4, attention_head_dim=4).eval()


def pixel_pipeline(folder: Path) -> Path:
    """A DDPM pipeline as diffusers saves one."""
    from diffusers import DDPMPipeline, DDPMScheduler

    DDPMPipeline(pixel_unet(), DDPMScheduler()).save_pretrained(folder)
    return folder


def pixel_file(path: Path, channels: int = 3) -> Path:
    """The single-file form, stored in half precision."""
    from diffusers import DDPMScheduler

    unet = pixel_unet(channels)
    tensors = {f"unet.{name}": value.half() for name, value in unet.state_dict().items()}
    write_safetensors(path, tensors, {"unet": dict(unet.config), "scheduler": dict(DDPMScheduler().config)})
    return path


def vq_model() -> Any:
    from diffusers import VQModel

    torch.manual_seed(1)
    widths = {"block_out_channels": (8, 16), "latent_channels": 3, "num_vq_embeddings": 32, "norm_num_groups": 4, "scaling_factor": 1.0}
    return VQModel(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **widths).eval()


def kl_model() -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(2)
    widths = {"block_out_channels": (8, 16), "latent_channels": 4, "norm_num_groups": 4, "sample_size": 16}
    return AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **widths).eval()


def text_unet(width: int = 32) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(3)
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    sizes = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16), "cross_attention_dim": width}
    return UNet2DConditionModel(**sizes, **blocks, layers_per_block=1, norm_num_groups=4, attention_head_dim=4).eval()


def latent_pipeline(folder: Path) -> Path:
    from diffusers import DDIMScheduler, LDMPipeline

    schedule = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False)
    LDMPipeline(vq_model(), pixel_unet(3, 8), schedule).save_pretrained(folder)
    return folder


def latent_file(path: Path) -> Path:
    from diffusers import DDIMScheduler

    parts = {"unet": pixel_unet(3, 8), "vqvae": vq_model()}
    tensors = {f"{part}.{name}": value for part, model in parts.items() for name, value in model.state_dict().items()}
    write_safetensors(
        path, tensors, {**{part: dict(model.config) for part, model in parts.items()}, "scheduler": dict(DDIMScheduler().config)}
    )
    return path


def bert_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "of", "face", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def text_latent_pipeline(folder: Path) -> Path:
    """A text-guided LDM pipeline as diffusers saves one: BERT, KL autoencoder, conditional UNet."""
    from diffusers import DDIMScheduler, LDMTextToImagePipeline
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
    from transformers import BertTokenizerFast

    torch.manual_seed(4)
    sizes = {"vocab_size": 11, "max_position_embeddings": 77, "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 32}
    bert = LDMBertModel(LDMBertConfig(**sizes, encoder_attention_heads=2, head_dim=16)).eval()
    tokenizer = BertTokenizerFast.from_pretrained(bert_vocabulary(folder / "vocabulary"))
    LDMTextToImagePipeline(kl_model(), bert, tokenizer, text_unet(), DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    return folder


def stable_diffusion_pipeline(folder: Path, with_checker: bool = True) -> Path:
    """A Stable Diffusion v1 pipeline as diffusers saves one, tokenizer and safety checker included."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    torch.manual_seed(5)
    sizes = {"vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = CLIPTextModel(CLIPTextConfig(**sizes, max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1))
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config={}, vision_config=vision, projection_dim=8))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    schedule = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
    safety = {"safety_checker": checker if with_checker else None, "feature_extractor": processor if with_checker else None}
    networks = {"vae": kl_model(), "text_encoder": text, "tokenizer": tokenizer, "unet": text_unet(), "scheduler": schedule}
    StableDiffusionPipeline(**networks, **safety, requires_safety_checker=with_checker).save_pretrained(folder)
    return folder


def stable_diffusion_file(path: Path, folder: Path) -> Path:
    """The single-file form of the pipeline that `stable_diffusion_pipeline` saved in `folder`."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    parts = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
    }
    tokenizer = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    config = {name: plain_config(part.config) for name, part in parts.items() if name != "text_encoder"}
    config["text_encoder"] = parts["text_encoder"].config.to_diff_dict()
    config["scheduler"] = plain_config(DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False).config)
    config["tokenizer"] = {"vocab": tokenizer["vocab"], "merges": tokenizer["merges"], "model_max_length": 16}
    write_safetensors(
        path, {f"{part}.{name}": value for part, model in parts.items() for name, value in model.state_dict().items()}, config
    )
    return path


def same_for_all_batch_sizes(model: Any, make: Any) -> None:
    """Asserts that `make(rows)` gives eight images which are the same in batches of 1, 3 and 8, to one grey level."""
    batches = []
    for size in (1, 3, 8):
        model.batch_size = size
        batches.append(make().astype(int))
    assert batches[0].shape[0] == 8
    assert batches[0].std() > 5, "a flat picture shows nothing"
    assert not np.array_equal(batches[0][0], batches[0][1]), "two seeds give one picture"
    for other in batches[1:]:
        assert np.abs(other - batches[0]).max() <= 1


def folder_checkpoint(folder: Path, **options: Any) -> Checkpoint:
    return Checkpoint(folder, options)

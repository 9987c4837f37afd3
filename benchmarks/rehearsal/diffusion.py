"""Stand-ins of the diffusion models: folders as their repositories on the Hub have them, with random weights."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch

from benchmarks.rehearsal.scale import Scale

HO = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": True}
LATENT = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}


def ddpm(folder: Path, scale: Scale) -> None:
    """google/ddpm-celebahq-256: the network and the schedule in the folder itself, the weights as safetensors and as .bin."""
    from diffusers import DDPMScheduler, UNet2DModel

    down, up = ["DownBlock2D"] * 6, ["UpBlock2D"] * 6
    down[4], up[1] = "AttnDownBlock2D", "AttnUpBlock2D"
    unet = UNet2DModel(
        sample_size=scale.of(256, 64),
        block_out_channels=scale.of((128, 128, 256, 256, 512, 512), (32,) * 6),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
    _save(unet, folder, "safetensors", "bin")
    DDPMScheduler(**HO, variance_type="fixed_small").save_pretrained(folder)
    _index(folder, "DDPMPipeline", scheduler=("diffusers", "DDPMScheduler"), unet=("diffusers", "UNet2DModel"))


def ldm_uncond(folder: Path, scale: Scale) -> None:
    """CompVis/ldm-celebahq-256: .bin files alone, and a VQ folder of before `scaling_factor`."""
    from diffusers import DDIMScheduler, UNet2DModel, VQModel

    unet = UNet2DModel(
        sample_size=scale.of(64, 16),
        block_out_channels=scale.of((224, 448, 672, 896), (32, 64, 64, 64)),
        down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * 3),
        up_block_types=(*["AttnUpBlock2D"] * 3, "UpBlock2D"),
        attention_head_dim=32,
        norm_eps=1e-6,
    )
    vqvae = VQModel(
        block_out_channels=scale.of((128, 256, 512), (32, 32, 64)),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=3,
        num_vq_embeddings=scale.of(8192, 256),
        vq_embed_dim=3,
    )
    _save(unet, folder / "unet", "bin")
    _save(vqvae, folder / "vqvae", "bin")
    _forget(folder / "vqvae" / "config.json", "scaling_factor")
    DDIMScheduler(**LATENT, beta_start=0.0015, beta_end=0.0195).save_pretrained(folder / "scheduler")
    parts = {"scheduler": ("diffusers", "DDIMScheduler"), "unet": ("diffusers", "UNet2DModel"), "vqvae": ("diffusers", "VQModel")}
    _index(folder, "LDMPipeline", **parts)


def ldm_text(folder: Path, scale: Scale) -> None:
    """CompVis/ldm-text2im-large-256, whose text model is a class of diffusers and saved as .bin."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    width, heads = scale.of(1280, 32), 8
    unet = UNet2DConditionModel(
        sample_size=scale.of(32, 16),
        block_out_channels=scale.of((320, 640, 1280, 1280), (32,) * 4),
        cross_attention_dim=width,
        attention_head_dim=heads,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )
    bert = LDMBertModel(
        LDMBertConfig(
            vocab_size=scale.of(30522, 100),
            max_position_embeddings=77,
            encoder_layers=scale.of(32, 2),
            encoder_ffn_dim=scale.of(5120, 64),
            encoder_attention_heads=heads,
            head_dim=scale.of(64, 4),
            d_model=width,
            pad_token_id=0,
        )
    )
    _save(unet, folder / "unet", "safetensors")
    _save(_autoencoder(AutoencoderKL, scale), folder / "vqvae", "safetensors")
    _save(bert, folder / "bert", "bin")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.txt").write_text("\n".join(words))
    DDIMScheduler(**LATENT, beta_start=0.00085, beta_end=0.012).save_pretrained(folder / "scheduler")
    parts = {"bert": ("latent_diffusion", "LDMBertModel"), "tokenizer": ("transformers", "BertTokenizer")}
    parts |= {"unet": ("diffusers", "UNet2DConditionModel"), "vqvae": ("diffusers", "AutoencoderKL")}
    _index(folder, "LDMTextToImagePipeline", scheduler=("diffusers", "DDIMScheduler"), **parts)


def stable_diffusion(folder: Path, scale: Scale) -> None:
    """CompVis/stable-diffusion-v1-4 with its safety checker, each network in full precision and as the fp16 variant."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel

    letters = string.ascii_lowercase
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    _write(folder / "tokenizer" / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token": tokens[0], "eos_token": tokens[1], "unk_token": tokens[1], "pad_token": tokens[1]}
    _write(folder / "tokenizer" / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **ends})
    width, heads = scale.of(768, 32), scale.of(12, 2)
    text = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": scale.of(12, 2), "num_attention_heads": heads}
    vocabulary = {"vocab_size": scale.of(49408, 100), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    seen = {"hidden_size": scale.of(1024, 32), "intermediate_size": scale.of(4096, 64), "num_hidden_layers": scale.of(24, 2)}
    seen |= {"num_attention_heads": scale.of(16, 2), "patch_size": 14, "image_size": 224}
    checker = CLIPConfig(text_config={**text, **vocabulary}, vision_config=seen, projection_dim=scale.of(768, 32))
    unet = UNet2DConditionModel(
        sample_size=scale.of(64, 16), cross_attention_dim=width, block_out_channels=scale.of((320, 640, 1280, 1280), (32,) * 4)
    )
    networks = {
        "unet": unet,
        "vae": _autoencoder(AutoencoderKL, scale),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text, **vocabulary)),
        "safety_checker": StableDiffusionSafetyChecker(checker),
    }
    for name in list(networks):
        _save(networks.pop(name), folder / name, "safetensors", "fp16")
    looks = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3}
    looks |= {f"do_{what}": True for what in ("center_crop", "normalize", "resize")} | {"size": 224, "crop_size": 224}
    _write(folder / "feature_extractor" / "preprocessor_config.json", {"feature_extractor_type": "CLIPFeatureExtractor", **looks})
    scheduler = PNDMScheduler(
        **{k: v for k, v in LATENT.items() if k != "clip_sample"}, beta_start=0.00085, beta_end=0.012, skip_prk_steps=True
    )
    scheduler.save_pretrained(folder / "scheduler")
    parts = {"text_encoder": ("transformers", "CLIPTextModel"), "tokenizer": ("transformers", "CLIPTokenizer")}
    parts |= {"unet": ("diffusers", "UNet2DConditionModel"), "vae": ("diffusers", "AutoencoderKL")}
    parts |= {"safety_checker": ("stable_diffusion", "StableDiffusionSafetyChecker"), "scheduler": ("diffusers", "PNDMScheduler")}
    _index(folder, "StableDiffusionPipeline", feature_extractor=("transformers", "CLIPFeatureExtractor"), **parts)


def _autoencoder(cls: Any, scale: Scale) -> Any:
    """The KL autoencoder of f8 that Stable Diffusion and the text-guided LDM have."""
    return cls(
        block_out_channels=scale.of((128, 256, 512, 512), (32,) * 4),
        layers_per_block=scale.of(2, 1),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=scale.of(512, 128),
    )


def _save(network: Any, folder: Path, *forms: str) -> None:
    """Saves a network under the names of its library, in several forms: "safetensors", "bin", and "fp16", which is safetensors too."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    of_diffusers = hasattr(network, "save_config")
    (network.save_config if of_diffusers else network.config.save_pretrained)(folder)
    stem = "diffusion_pytorch_model" if of_diffusers else "model"
    for form in forms:
        if form == "bin":
            torch.save(network.state_dict(), folder / f"{stem if of_diffusers else 'pytorch_model'}.bin")
            continue
        state = (network.half() if form == "fp16" else network).state_dict()
        file = folder / f"{stem}{'.fp16' if form == 'fp16' else ''}.safetensors"
        save_file({name: value.contiguous() for name, value in state.items()}, file, {"format": "pt"})


def _index(folder: Path, pipeline: str, **parts: tuple[str, str]) -> None:
    listed = {name: list(pair) for name, pair in parts.items()}
    _write(folder / "model_index.json", {"_class_name": pipeline, "_diffusers_version": "0.2.2", **listed})
    (folder / "README.md").write_text("A stand-in with random weights.")


def _forget(file: Path, key: str) -> None:
    """Takes a key out of a configuration, which the release of before that key does not have."""
    value = json.loads(file.read_text())
    value.pop(key, None)
    _write(file, value)


def _write(file: Path, value: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2))

"""UNet, first stage and text encoder of CompVis/latent-diffusion, from a Lightning checkpoint, as the ldm method loads it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from generators.checkpoints import Checkpoint
from generators.methods.ldm import LDM
from tests.parity.cases import Case

OPTIONS = ("image_size", "num_heads", "num_head_channels")


def check(case: Case) -> None:
    unet = case.config["unet"]
    options = {name: unet[name] for name in OPTIONS if unet.get(name, -1) != -1}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        torch.save({"state_dict": case.weights("state_dict"), "global_step": 1, "epoch": 1}, place / "model.ckpt")
        (place / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
        model = LDM.load(Checkpoint(place / "model.ckpt", options, {"tokenizer": Checkpoint(place)}))
    x, t = case.tensor("x"), case.tensor("t")
    with torch.inference_mode():
        if case.config["text"]:
            context = model.text_encoder(case.tensor("tokens"), return_dict=True).last_hidden_state
            case.compare("text_embedding", context)
            case.compare("eps", model.predict_with(x, t, case.tensor("text_embedding")))
        else:
            case.compare("eps", model.predict(x, t))
        case.compare("decoded", model.decode(x * model.first_stage.config.scaling_factor))

"""VQGAN's decoder, encoder and transformer, from a Lightning checkpoint."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch

from generators.checkpoints import Checkpoint
from generators.methods.vqgan import VQGAN
from generators.networks.vq.gpt import keep_likely, sample_tokens
from tests.parity.cases import Case


def check(case: Case) -> None:
    config = case.config
    resolution, levels = config["ddconfig"]["resolution"], len(config["ddconfig"]["ch_mult"])
    (name,) = case.facts["weights"]
    options = {"n_head": config["transformer"]["n_head"], "sos_token": config.get("sos_token", 0)}
    if config["transformer"]["block_size"] != (resolution // 2 ** (levels - 1)) ** 2:
        options["resolution"] = resolution
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        torch.save({"state_dict": case.weights(name), "global_step": 1, "callbacks": {}}, path)
        generator = VQGAN.load(Checkpoint(path, options))
    assert generator.resolution == resolution
    with torch.inference_mode():
        _check_first_stage(case, generator)
        _check_transformer(case, generator)


def _check_first_stage(case: Case, generator: VQGAN) -> None:
    first_stage = generator.first_stage
    if "decode_indices" in case.arrays:
        side = case.config["ddconfig"]["resolution"] // first_stage.factor
        case.compare("decoded", first_stage.decode(case.tensor("decode_indices"), side, side))
    if "encode_x" in case.arrays or "encode_x" in case.facts.get("inputs", {}):
        x = case.tensor("encode_x") if "encode_x" in case.arrays else torch.from_numpy(case.input("encode_x"))
        prequant = first_stage.encode(x)
        case.compare("encode_prequant", prequant)
        case.compare("encode_indices", first_stage.quantize(prequant).flatten(), atol=0)


def _check_transformer(case: Case, generator: VQGAN) -> None:
    network, sos = generator.transformer, generator.sos_token
    logits = network(case.tensor("prefix"))
    case.compare("logits", logits)
    for name in case.arrays:
        if match := re.fullmatch(r"probs_topk(\d+)_last", name):
            case.compare(name, keep_likely(logits[:, -1], int(match[1])).softmax(-1))
    greedy = case.tensor("greedy_tokens")
    silence = torch.zeros(*greedy.shape, network.tok_emb.num_embeddings)
    case.compare("greedy_tokens", sample_tokens(network, sos, silence), atol=0)
    case.compare("greedy_tokens", sample_tokens(network, sos, silence, top_k=1), atol=0)

"""Stand-ins of the face swappers and of the networks beside them, with random weights: SimSwap, DiffFace, and a detector."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.rehearsal import pickles
from benchmarks.rehearsal.scale import Scale

SIDE = 640  # pixels that insightface shows its detector
ANCHORS = 2  # at each place of a map
STRIDES = (8, 16, 32)
# Where the stand-in detector sees its one face: box and five landmarks as parts of the picture's side, the picture being the middle half
# of what it is shown (`Faces.padding`).
BOX = (0.15, 0.1, 0.85, 0.95)
LANDMARKS = ((0.34, 0.40), (0.66, 0.40), (0.50, 0.58), (0.37, 0.75), (0.63, 0.75))


def simswap(path: Path, scale: Scale) -> None:
    """checkpoints.zip of the release, in which people/latest_net_G.pth is the network and the rest is for those who train."""
    from generators.networks.faces.simswap import CHANNELS, SimSwapGenerator

    network = SimSwapGenerator(scale.of(CHANNELS["fs_networks"], (8, 8, 16, 16)), n_blocks=scale.of(9, 2))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, state in {"latest_net_G": network.state_dict(), "latest_net_D1": {"model0.0.weight": torch.randn(64, 3, 4, 4)}}.items():
            with archive.open(f"people/{name}.pth", "w", force_zip64=True) as out:
                torch.save(state, out)
        archive.writestr("people/iter.txt", "30\n")


def arcface(path: Path, scale: Scale) -> None:
    """arcface_checkpoint.tar: a whole pickled module of SimSwap's."""
    pickles.write_torch_module(path, "models.arcface_models", "ResNet", _arcface_state(scale), lambda module: module)


def arcface_of_diffface(path: Path, scale: Scale) -> None:
    """Arcface.tar: the module inside a DataParallel, beside what its training left."""
    state = {f"module.{name}": value for name, value in _arcface_state(scale).items()}

    def inside(module: Any) -> Any:
        return {"epoch": 1, "epochs_since_improvement": 0, "acc": 0.5, "model": module}

    pickles.write_torch_module(path, "models.arcface_parallel", "DataParallel", state, inside)


def face_parser(path: Path, scale: Scale) -> None:
    """FaceParser.pth: BiSeNet's flat state dict. Its last layer prefers the face's classes, and the eyes among them here and there."""
    from generators.networks.faces.bisenet import BiSeNet

    network = BiSeNet()
    weight = network.conv_out.conv_out.weight
    with torch.no_grad():
        weight.normal_(0.0, 0.1)
        weight[[1, 2, 3, 4, 5, 10, 11, 12, 13]] *= 3.0
    torch.save(network.state_dict(), path)


def gaze(path: Path, scale: Scale) -> None:
    """GazeEstimator.pt, with the sizes of its hourglasses and its optimiser's state."""
    from generators.networks.faces.gaze import GazeNet

    sizes = {"nstack": scale.of(3, 2), "nfeatures": scale.of(32, 16), "nlandmarks": 34}
    state = GazeNet(**sizes).state_dict()
    torch.save({**sizes, "best_val_loss": 1.0, "model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}}, path)


def diffface(path: Path, scale: Scale) -> None:
    """Model.pt: guided-diffusion's UNet of 256 px with the embedding of an identity."""
    from diffusers import UNet2DModel

    from generators.networks.diffusion.openai_names import Heads, openai_state

    width = scale.of(256, 32)
    down = ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3
    unet = UNet2DModel(
        sample_size=256,
        out_channels=6,
        block_out_channels=tuple(width * factor for factor in (1, 1, 2, 2, 4, 4)),
        layers_per_block=scale.of(2, 1),
        down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up").replace("down", "up") for name in reversed(down)),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=64,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift",
        freq_shift=0,
        class_embed_type="identity",
    )
    state = openai_state(unet.state_dict(), Heads(channels=64))
    del unet
    embed = nn.Sequential(nn.Linear(512, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
    torch.save(state | {f"id_embed.{name}": value for name, value in embed.state_dict().items()}, path)


def detector(path: Path, scale: Scale) -> None:
    """SCRFD with key points as insightface exports it, whose convolutions are random and change nothing: it sees one face in every picture,
    in the middle half of what it is shown."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes: list[Any] = []
    weights: list[tuple[str, np.ndarray]] = [("none", np.zeros((), np.float32))]
    source = "input.1"
    channels = 3
    outputs: dict[str, list[int]] = {}
    for stride in (2, 4, *STRIDES):
        width = scale.of(64, 8)
        kernel = np.random.default_rng(stride).normal(size=(width, channels, 3, 3)).astype(np.float32) / math.sqrt(9 * channels)
        weights.append((f"kernel{stride}", kernel))
        nodes.append(helper.make_node("Conv", [source, f"kernel{stride}"], [f"map{stride}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        source, channels = f"map{stride}", width
    answers = {stride: _answers(stride) for stride in STRIDES}
    for number, kind in enumerate(("score", "bbox", "kps")):
        for stride in STRIDES:
            name, answer = f"{kind}_{stride}", answers[stride][number]
            weights.append((f"{name}_answer", answer))
            nodes.append(helper.make_node("ReduceMean", [f"map{stride}"], [f"{name}_mean"], keepdims=0))
            nodes.append(helper.make_node("Mul", [f"{name}_mean", "none"], [f"{name}_nothing"]))
            nodes.append(helper.make_node("Add", [f"{name}_answer", f"{name}_nothing"], [name]))
            outputs[name] = list(answer.shape)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    asked = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "height", "width"])]
    graph = helper.make_graph(nodes, "detector", asked, values, [numpy_helper.from_array(array, name) for name, array in weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _answers(stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores `[K, 1]`, distances to the box's sides `[K, 4]` and to the landmarks `[K, 10]` at every anchor of one map, in strides."""
    side = SIDE // stride
    count = ANCHORS * side * side
    scores, boxes, points = np.zeros((count, 1), np.float32), np.zeros((count, 4), np.float32), np.zeros((count, 10), np.float32)
    if stride == STRIDES[-1]:
        row = column = side // 2
        place = ANCHORS * (row * side + column)
        centre = np.array([column, row]) * stride
        left, top, right, bottom = (SIDE / 4 + SIDE / 2 * part for part in BOX)
        scores[place] = 0.9
        boxes[place] = np.array([centre[0] - left, centre[1] - top, right - centre[0], bottom - centre[1]]) / stride
        points[place] = (((SIDE / 4 + SIDE / 2 * np.array(LANDMARKS)) - centre) / stride).ravel()
    return scores, boxes, points


def _arcface_state(scale: Scale) -> dict[str, torch.Tensor]:
    from generators.networks.faces.arcface import ArcFace

    network = ArcFace(scale.of((3, 4, 23, 3), (1, 1, 1, 1)), widths=scale.of((64, 128, 256, 512), (8, 8, 16, 16)), embedding_size=512)
    return {name: value for name, value in network.state_dict().items()}

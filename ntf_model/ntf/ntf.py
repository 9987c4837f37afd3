"""Natural Trace Forensics as a detector: training, saving, loading and scoring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ntf_model.data.data import DetectionSplits
from ntf_model.data.loader import keep_decoded
from ntf_model.detector import Detector, TrainingRun, best_device, parse_settings
from ntf_model.encoders.adapting import freeze_unreached
from ntf_model.encoders.build import encoder_config, encoder_note, encoder_of
from ntf_model.judging.metrics import best_threshold
from ntf_model.networks.weights import load_into, without_prefix
from ntf_model.ntf.config import NTFConfig, preset
from ntf_model.ntf.inference import predict, predict_data, start_as_probe
from ntf_model.ntf.network import DetectionNetwork, TraceNetwork, new_encoder
from ntf_model.ntf.stages import find_trace, learn_detection, learn_trace
from ntf_model.registry import register_detector
from ntf_model.runs import CONFIG_FILE, STAGE1_FOLDER, load_weights, save_weights, write_run
from ntf_model.training.processes import make_accelerator, own_random_numbers

TRACE_NAME = "ntf-stage1"


@register_detector("ntf")
class NTFDetector(Detector):
    """The detector of arXiv 2403.16513. `NTFDetector.from_pretrained(path)(images)` gives a `Detection` for each picture."""

    title = "NTF"
    Config = NTFConfig

    @classmethod
    def preset(cls, name: str, **changes: Any) -> NTFConfig:
        return preset(name, **changes)

    def __init__(self, network: DetectionNetwork, trace: torch.Tensor | None, config: NTFConfig, threshold: float, device: torch.device):
        self.network, self.config, self.threshold, self.device = network.to(device).eval(), config, threshold, device
        self.trace = None if trace is None else trace.detach().cpu().numpy()

    @classmethod
    def train(cls, splits: DetectionSplits, config: NTFConfig, run: TrainingRun, stage1: Path | None = None) -> Self:
        """Both stages. `stage1` is the folder `stage1` of an earlier run whose trace is taken over instead of learning it again.

        With `run.output`: `config.json` and `model.safetensors`, the same for stage 1 under `stage1/`, `run.json`, `metrics.json`,
        `tensorboard/`, and `checkpoint/` while it runs. Under `accelerate launch` every process calls this.
        """
        splits = splits._replace(train=keep_decoded(splits.train), validation=keep_decoded(splits.validation))  # for both stages
        accelerator = make_accelerator(config.mixed_precision, run.device)
        with own_random_numbers(accelerator, config.seed):
            options: dict[str, Any] = {"resume": run.resume, "on_progress": run.on_progress}
            history: list[dict[str, Any]] = []
            teacher = trace = None
            if config.stage2.from_stage1:
                teacher, history = _teacher(splits, config, accelerator, run.output, stage1, options)
                trace = find_trace(teacher, splits.train, config, accelerator.device)
            if teacher is not None and config.stage2.student == "teacher":
                network = DetectionNetwork.from_trace(teacher, config.stage2.freeze_encoder)
            else:
                torch.manual_seed(config.seed)  # the same encoder whether a stage 1 went before or not
                network = DetectionNetwork(new_encoder(config, splits.train), config.projection_dim)
            torch.manual_seed(config.seed + 1)  # the same stage 2 whether stage 1 was trained, resumed or taken over
            for head in (network.aux, network.classifier):
                head.apply(lambda layer: layer.reset_parameters() if isinstance(layer, nn.Linear) else None)
            if accelerator.num_processes > 1:
                freeze_unreached(network)
            if config.stage2.start_as_probe:
                start_as_probe(network.to(accelerator.device), splits, config, accelerator.device)
            detection, best = learn_detection(network, trace, splits, config, accelerator, run.output, **options)
        detector = cls(network, None if trace is None else trace.prototype, config, 0.5, accelerator.device)
        scores = predict_data(network, splits.validation, config, accelerator.device).probability
        detector.threshold = best_threshold(splits.validation.labels, scores)
        if run.output and accelerator.is_main_process:
            detector.save_pretrained(run.output)
            metrics = {
                "encoder": encoder_config(network.encoder)["name"],
                "stage1": history,
                "stage2": detection,
                "best": best,
                "threshold": detector.threshold,
            }
            write_run(run.output, splits, config, metrics)
        accelerator.wait_for_everyone()
        return detector

    @property
    def note(self) -> str:
        """Which encoder it is, where the configuration left that open."""
        return encoder_note(self.config, self.network.encoder)

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return predict(self.network, images, self.config, self.device).probability

    def distance(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The distance of each picture to the natural trace, (1 - cos) / 2 in [0, 1]: float64 `[N]`; nan if trained without a trace."""
        return self._distance(predict(self.network, images, self.config, self.device).features)

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The features that are compared with the trace: unit float32 `[N, projection_dim]`."""
        return predict(self.network, images, self.config, self.device).features

    def score_and_distance(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        predicted = predict(self.network, images, self.config, self.device)
        return predicted.probability, self._distance(predicted.features)

    def save_pretrained(self, folder: Path) -> None:
        config = {
            "config": self.config.model_dump(mode="json"),
            "backbone": encoder_config(self.network.encoder),
            "threshold": self.threshold,
        }
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.trace is not None:
            tensors["trace"] = torch.from_numpy(self.trace)
        save_weights(Path(folder), self.name, config, tensors)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | torch.device | None = None) -> Self:
        values, tensors = load_weights(folder, cls.name)
        config = parse_settings(NTFConfig, values.get("config", {}), f"{folder}/{CONFIG_FILE}")
        encoder = encoder_of(config, values.get("backbone"))
        network = DetectionNetwork(encoder, config.projection_dim, config.stage2.freeze_encoder)
        trace = tensors.pop("trace", None)
        load_into(network, without_prefix(tensors, "network."), folder)
        return cls(network, trace, config, float(values.get("threshold", 0.5)), best_device(device))

    def _distance(self, features: np.ndarray) -> np.ndarray:
        if self.trace is None:
            return np.full(len(features), np.nan)
        cosine = features.astype(np.float64) @ np.atleast_2d(self.trace).astype(np.float64).T
        return (1 - np.clip(cosine.max(1), -1, 1)) / 2


def save_teacher(network: TraceNetwork, config: NTFConfig, folder: Path) -> None:
    """Writes a trained stage 1, for `load_teacher`."""
    values = {"config": config.model_dump(mode="json"), "backbone": encoder_config(network.encoder)}
    save_weights(folder, TRACE_NAME, values, network.state_dict())


def load_teacher(folder: Path | str) -> TraceNetwork:
    """Reads a trained stage 1. Raises InputError if it is missing or damaged."""
    values, tensors = load_weights(folder, TRACE_NAME)
    config = parse_settings(NTFConfig, values.get("config", {}), f"{folder}/{CONFIG_FILE}")
    network = TraceNetwork(encoder_of(config, values.get("backbone")), config.projection_dim)
    load_into(network, tensors, folder)
    return network


def _teacher(
    splits: DetectionSplits, config: NTFConfig, accelerator: Any, output: Path | None, stage1: Path | None, options: dict[str, Any]
) -> tuple[TraceNetwork, list[dict[str, Any]]]:
    """The stage-1 network, trained or taken over, and its history."""
    if stage1 is not None:
        return load_teacher(stage1), []
    teacher = TraceNetwork(new_encoder(config, splits.train), config.projection_dim)
    if accelerator.num_processes > 1:
        freeze_unreached(teacher)
    history = learn_trace(teacher, splits.train, config, accelerator, output, **options)
    if output and accelerator.is_main_process:
        save_teacher(teacher, config, output / STAGE1_FOLDER)
    return teacher, history

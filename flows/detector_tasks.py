"""The Prefect tasks that train and judge detectors. Each calls one plain function that runs without Prefect too."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import judging
from flows.data import detector_settings
from flows.progress import step_progress
from ntf_model.data.data import DetectionSplits
from pipelines.build.devices import parse_devices
from pipelines.manifest.schema import Manifest

train_ntf = task(judging.train_detector, name="train-ntf", cache_policy=NO_CACHE, persist_result=False)
evaluate_ntf = task(judging.evaluate_detector, name="evaluate-ntf", cache_policy=NO_CACHE, persist_result=False)
robustness_ntf = task(judging.measure_robustness, name="robustness-ntf", cache_policy=NO_CACHE, persist_result=False)
explain_ntf = task(judging.explain_ntf, name="explain-ntf", cache_policy=NO_CACHE, persist_result=False)


def train_as_stated(manifest: Manifest, splits: DetectionSplits, run: Path, device: str) -> None:
    """Trains NTF as a manifest says, on the first of the devices, into the folder `run`, and shows how far it is. What was begun there goes
    on."""
    chosen = None if device == "auto" else parse_devices(device)[0]
    with step_progress("train") as show:
        train_ntf("ntf", splits, run, detector_settings(manifest), resume=True, device=chosen, on_progress=show)

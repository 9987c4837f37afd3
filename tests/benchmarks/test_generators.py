"""The benchmark measures what it says, and its configurations fit the generators that they are of."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest
import torch

from benchmarks.configurations import CONFIGURATIONS, Configuration
from benchmarks.generators import Stopwatch, measure
from generators import registry


class Sleeper:
    def outer(self) -> None:
        time.sleep(0.02)
        self.inner()

    def inner(self) -> None:
        time.sleep(0.02)


def test_nested_calls_are_counted_once() -> None:
    watch, sleeper = Stopwatch(torch.device("cpu")), Sleeper()
    watch.watch(sleeper, "outer")
    watch.watch(sleeper, "inner")
    sleeper.outer()
    assert 0.04 <= watch.seconds < 0.2
    before = watch.seconds
    sleeper.inner()
    assert watch.seconds - before >= 0.02


def test_measures_a_small_generator() -> None:
    def make(device: torch.device, dtype: torch.dtype) -> Any:
        from generators.networks.stylegan2 import Generator

        return registry.get("stylegan2")(Generator(8, 0, 8, 16, channel_base=64, channel_max=8), device, dtype)

    configuration = Configuration("stylegan2", "16", make, parameters={"noise_mode": "none"}, times=2.0)
    result = measure(configuration, 2, torch.device("cpu"), torch.float32, 3, None)
    assert result["images_per_second"] * result["seconds_per_image"] == pytest.approx(1)
    assert 0 < result["outside_share"] < 1
    assert result["memory_mib"] > 50
    assert "ratio" not in result


@pytest.mark.parametrize("configuration", [pytest.param(one, id=one.name) for one in CONFIGURATIONS])
def test_configurations_can_be_built(configuration: Configuration) -> None:
    """At their full size, but without memory for the weights."""
    with torch.device("meta"):
        generator = configuration.make(torch.device("meta"), torch.float32)
    for name in configuration.network:
        assert callable(functools.reduce(getattr, name.split("."), generator))
    generator.parse_parameters(dict(configuration.parameters))
    assert configuration.request(generator, 2).step in generator.steps

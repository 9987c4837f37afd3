"""The benchmark measures what it says, and its configurations fit the generators that they are of."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.configurations import CONFIGURATIONS, Configuration, chosen
from benchmarks.generators import Stopwatch, Turns, extend, markdown, measure, outside, ratios, seconds_an_image
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
        from generators.networks.gan.stylegan2 import Generator

        return registry.get("stylegan2")(Generator(8, 0, 8, 16, channel_base=64, channel_max=8), device, dtype)

    configuration = Configuration("stylegan2", "16", make, parameters={"noise_mode": "none"}, times=2.0)
    result = measure(configuration, 2, torch.device("cpu"), rounds=3, images=5)
    assert (len(result["seconds"]["first"]), len(result["seconds"]["wall"])) == (1, 3)
    assert seconds_an_image(result) == pytest.approx(2.0 * sorted(result["seconds"]["wall"])[1] / 5)
    assert 0 < outside(result) < 1
    assert result["memory_mib"] > 50
    assert ratios(result) is None


def measured(batch: int, wall: list[float], official: list[float] | None = None) -> dict[str, Any]:
    clocks = [
        None
        if values is None
        else {"first": [9.0]}
        | {clock: list(values) for clock in ("wall", "cpu", "network")}
        | {clock: [0.5] * len(values) for clock in ("wall_once", "cpu_once")}
        for values in (wall, official)
    ]
    same = {"name": "a", "device": "CPU", "dtype": "float32", "compiled": False, "torch": "2", "memory_mib": 100, "times": 1.0}
    return {**same, "batch": batch, "images": batch, "seconds": clocks[0], "official_seconds": clocks[1]}


def test_what_an_image_needs_once_is_not_multiplied_by_the_steps_that_were_left_out() -> None:
    """Two images in two of ten steps: 3 s, of which half a second is the decoder."""
    result = measured(2, [3.0]) | {"times": 5.0}
    assert seconds_an_image(result) == (0.5 + 5 * 2.5) / 2
    assert seconds_an_image(result, "cpu") == (0.5 + 5 * 2.5) / 2


def test_the_decoder_is_timed_apart() -> None:
    class Network(Sleeper):
        def make(self) -> None:
            self.outer()
            self.inner()

    network = Network()
    watch, once = Stopwatch(torch.device("cpu")), Stopwatch(torch.device("cpu"))
    watch.watch(network, "make")
    once.watch(network, "inner")
    turns = Turns(first=[0.0])
    turns.take(network.make, watch, once)
    assert 0.06 <= turns.network[0] <= turns.wall[0]
    assert 0.04 <= turns.wall_once[0] < turns.wall[0] - 0.01


def test_a_whole_name_is_one_configuration_and_a_part_of_it_several() -> None:
    assert [one.name for one in chosen("progan 256")] == ["progan 256"]
    assert [one.name for one in chosen("progan")] == ["progan 256", "progan 256 as pytorch_GAN_zoo", "progan 1024"]
    with pytest.raises(SystemExit, match="No configuration is called 'dreams'"):
        chosen("dreams")


def test_pieces_of_a_measurement_come_together() -> None:
    known = [measured(1, [1.0]), measured(8, [3.0, 4.0], [6.0, 7.0])]
    extend(known, measured(8, [2.0], [8.0]))
    assert len(known) == 2
    assert known[1]["seconds"]["wall"] == [3.0, 4.0, 2.0]
    assert ratios(known[1]) == {"wall median": 7 / 3, "wall min": 3.0, "cpu median": 7 / 3, "cpu min": 3.0}
    extend(known, measured(4, [1.0]))
    lines = markdown(known).splitlines()
    assert "| a | 8 | 2.67 | 0.375 | 2.67 |" in lines[3]
    assert lines[3].endswith("| 2.33 (3.00) | 2.33 (3.00) |")
    assert len(lines) == 5


@pytest.mark.parametrize("configuration", [pytest.param(one, id=one.name) for one in CONFIGURATIONS if one.method != "inswapper"])
def test_configurations_can_be_built(configuration: Configuration) -> None:
    """At their full size, but without memory for the weights."""
    with torch.device("meta"):
        generator = configuration.make(torch.device("meta"), torch.float32)
    for name in configuration.network:
        assert callable(functools.reduce(getattr, name.split("."), generator))
    generator.parse_parameters(dict(configuration.parameters))
    assert configuration.request(generator, 2, np.random.default_rng(0)).kind in generator.kinds

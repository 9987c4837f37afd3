"""What counts as a bare convolution, and that the replay runs just those."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.bare_convolutions import convolutions, in_turns, replay
from generators.networks.gan.stylegan2 import Generator


def test_notes_what_mixes_channels_with_its_work() -> None:
    images, weight = torch.zeros(2, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.zeros(5, 3, 3, 3)

    def make() -> None:
        wide = F.conv2d(images, weight, torch.zeros(5), stride=2, padding=1)  # [2, 5, 4, 4]
        F.conv2d(wide, torch.zeros(5, 1, 3, 3), padding=1, groups=5)  # each channel by itself
        F.conv_transpose2d(wide, torch.zeros(5, 4, 3, 3), stride=2)

    plain, transposed = convolutions(make)
    assert (plain.images.shape, plain.images.strides) == ((2, 3, 8, 8), images.stride())
    assert (plain.bias is not None, transposed.bias is not None) == (True, False)
    assert plain.products == 2 * 4 * 4 * 5 * 3 * 9
    assert transposed.products == 2 * 4 * 4 * 5 * 4 * 9


def test_the_replay_runs_the_same_convolutions_again() -> None:
    network = Generator(8, 0, 8, 16, channel_base=64, channel_max=8).eval()
    seen = convolutions(lambda: network(torch.zeros(2, 8)))
    assert [one.images.shape[2] for one in seen] == [4, 4, 8, 8, 16]  # of 4, 8 and 16 px: one, then a doubling and one each
    assert [one.settings[3] for one in seen] == [False, True, False, True, False]
    assert convolutions(replay(seen)) == seen


def test_turns_alternate_and_leave_out_the_first() -> None:
    calls: list[str] = []
    taken = in_turns([lambda: calls.append("a"), lambda: calls.append("b")], rounds=2)
    assert "".join(calls) == "ababab"
    assert [(len(turns.first), len(turns.wall), len(turns.cpu)) for turns in taken] == [(1, 2, 2)] * 2

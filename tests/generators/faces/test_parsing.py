from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError
from generators.faces.parsing import FaceParser
from generators.networks.faces.bisenet import BiSeNet


@pytest.fixture(scope="module")
def parser_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = BiSeNet(5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("parser") / "79999_iter.pth"
    torch.save(network.state_dict(), path)
    return path


def test_labels_do_not_depend_on_the_batch(parser_file: Path) -> None:
    parser = FaceParser.load(Checkpoint(parser_file))
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    labels = parser.labels(images, batch_size=3)
    assert labels.shape == (3, 512, 512)
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) > 1
    assert np.mean(parser.labels(images, batch_size=1) != labels) < 1e-4
    assert np.mean(parser.labels(images[:1], resize="bilinear") != labels[:1]) > 0


def test_folding_batch_norm_changes_nothing(parser_file: Path) -> None:
    state = torch.load(parser_file, weights_only=True)
    plain, folded = BiSeNet.from_state(state).eval(), BiSeNet.from_state(state).fold()
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        want = plain(images)
        assert want.shape == (1, 5, 96, 128)
        assert (folded(images) - want).abs().max() < 1e-4 * want.std()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth is not a BiSeNet"):
        FaceParser.load(Checkpoint(tmp_path / "other.pth"))

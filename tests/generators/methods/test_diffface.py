"""DiffFace with small random networks: the whole way from files to ranked candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators.base import SwapRequest
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.faces import guidance
from generators.faces.guidance import Weights, eye_boxes, total
from generators.faces.masks import ellipse_mask
from generators.images import to_float
from generators.methods.diffface import DiffFace, mask_strength
from generators.networks.diffusion.respaced import Respaced
from generators.networks.faces.arcface import ArcFace
from generators.networks.faces.gaze import GazeNet
from generators.seeding import torch_rng
from tests.generators.methods.tiny_diffusion import same_for_all_batch_sizes
from tests.parity.cases import Case

CASES = Path(__file__).parents[2] / "parity" / "cases" / "diffface"
CASE, GUIDED = Case(CASES / "tiny32"), Case(CASES / "guidance_and_loop_tiny32")
SIZE = 32
SHORT = {"steps": 6, "skip": 3, "masking_threshold": 2}  # the mask lets the swap through from the second step on
ROLES = {"arcface": "Arcface.tar", "face_parser": "FaceParser.pth", "gaze": "GazeEstimator.pt"}


@pytest.fixture(scope="module", autouse=True)
def small_parser_input():
    """The parser looks at 64 px instead of 512: the same code, in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guidance, "PARSER_SIZE", 64)
        patch.setattr(guidance, "LOGIT_SIZE", 32)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("diffface")
    torch.manual_seed(0)
    torch.save(CASE.weights("model"), folder / "Model.pt")
    torch.save({"model": ArcFace((1, 1, 1, 1), widths=(8, 8, 8, 8), input_size=SIZE).state_dict()}, folder / "Arcface.tar")
    torch.save(GUIDED.weights("netSeg"), folder / "FaceParser.pth")
    torch.save({"nstack": 1, "model_state_dict": GazeNet(1, 8, 4).state_dict()}, folder / "GazeEstimator.pt")
    parts = {role: Checkpoint(folder / file, {"input_size": SIZE} if role == "arcface" else {}) for role, file in ROLES.items()}
    return Checkpoint(folder / "Model.pt", {"num_head_channels": 16, "image_size": SIZE}, parts)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> DiffFace:
    model = DiffFace.load(checkpoint)
    model.guidance.copies = 3  # of eight, for speed
    return model


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Sixteen blurred noise pictures: eight sources and eight targets."""
    noise = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(noise, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def test_the_same_seed_gives_the_same_swap_for_all_batch_sizes(model: DiffFace, pictures: np.ndarray) -> None:
    same_for_all_batch_sizes(model, lambda: model.swap(pictures[:8], pictures[8:], range(8), candidates=1, parsing=0, gaze=0, **SHORT))


def test_the_nearest_candidate_is_kept_and_recorded(model: DiffFace, pictures: np.ndarray) -> None:
    request = SwapRequest([5, 6], pictures[:2], pictures[8:10])
    model.rows_at_once = 3  # not a multiple of the candidates: parts go across pairs
    result = model.run(request, candidates=2, **SHORT)
    settings = DiffFace.parse_parameters({"candidates": 2, **SHORT})
    with torch.no_grad():
        scene = model.guidance.prepare(to_float(pictures[:2]), to_float(pictures[8:10]))
        candidates = model._candidates(scene, [5, 6], settings)
        for row in range(2):
            similarities = F.cosine_similarity(model.guidance.identify(to_float(candidates[row])), scene.identities[row : row + 1])
            assert result.columns["candidate"][row] == int(similarities.argmax())
            assert result.columns["identity_similarity"][row] == pytest.approx(float(similarities.max()), abs=1e-4)
            assert np.abs(result.images[row].astype(int) - candidates[row, int(similarities.argmax())]).max() <= 1


def test_only_the_face_changes_and_a_target_without_one_is_rejected(
    model: DiffFace, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        mask = model.guidance.prepare(to_float(pictures[:1]), to_float(pictures[8:9])).masks[0, 0].bool().numpy()
    assert 0 < mask.mean() < 1, "the test needs a mask that is neither empty nor full"
    swapped = model.swap(pictures[:1], pictures[8:9], [1], candidates=1, **SHORT)
    assert np.abs(swapped[0][~mask].astype(int) - pictures[8][~mask]).max() <= 1
    assert np.abs(swapped[0][mask].astype(int) - pictures[8][mask]).max() > 5
    monkeypatch.setattr(guidance, "FACE", (16,))
    monkeypatch.setattr(
        model.guidance, "parse", lambda images: F.one_hot(torch.zeros(len(images), 32, 32).long(), 19).permute(0, 3, 1, 2).float()
    )
    result = model.run(SwapRequest([1], pictures[:1], pictures[8:9]), candidates=1, **SHORT)
    assert result.rejected == {0: "the face parser finds no face in the target"}


def test_each_term_pulls_towards_what_it_is_for(model: DiffFace, pictures: np.ndarray) -> None:
    """A small step against the gradient lowers the term; every term reaches the picture."""
    with torch.no_grad():
        scene = model.guidance.prepare(to_float(pictures[:2]), to_float(pictures[8:10]))
    boxes = [[(2, 4, 14, 12), (16, 4, 28, 12)]] * 2
    gazes = [[model.guidance.gaze_in(target, box) for box in row] for target, row in zip(scene.targets, boxes, strict=True)]
    scene = guidance.Scene(scene.targets, scene.masks, scene.identities, scene.logits, boxes, gazes)
    for name in ("identity", "parsing", "gaze", "preservation"):
        weights = Weights(**{**dict.fromkeys(("identity", "parsing", "gaze", "preservation"), 0.0), name: 1.0})
        images = to_float(pictures[4:6]).requires_grad_()

        def measure(images: torch.Tensor, weights: Weights = weights) -> torch.Tensor:
            return total(model.guidance.losses(images, scene, weights, [torch_rng(1), torch_rng(2)], with_gaze=True))

        before = measure(images)
        (gradient,) = torch.autograd.grad(before, images)
        with torch.no_grad():
            after = measure(images - 1e-3 * gradient / gradient.norm())
        assert after < before, name


def test_guidance_and_its_weights_decide_pixels(model: DiffFace, pictures: np.ndarray) -> None:
    pair = pictures[:1], pictures[8:9], [1]
    plain = model.swap(*pair, candidates=1, **SHORT)
    for change in ({"identity": 0.0}, {"parsing": 0.0}, {"preservation": 1e4}, {"ddim": True}):
        assert not np.array_equal(plain, model.swap(*pair, candidates=1, **SHORT, **change)), change


def test_eye_boxes_surround_what_the_parser_calls_eyes() -> None:
    labels = torch.zeros(256, 256, dtype=torch.long)
    labels[100:106, 60:90], labels[100:106, 150:181] = guidance.EYES
    assert eye_boxes(labels) == [(55, 93, 94, 111), (145, 93, 185, 111)]
    assert eye_boxes(torch.where(labels == guidance.EYES[0], 0, labels)) == []


def test_the_mask_grows_from_nothing_to_all() -> None:
    strengths = [mask_strength(k, 75, 30) for k in range(74, -1, -1)]
    assert strengths[0] == 0
    assert strengths[1] == pytest.approx(1 / 45)
    assert strengths[45] == strengths[-1] == 1


def test_the_network_is_evaluated_once_a_step(model: DiffFace, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda *args: calls.append(1) or predict(*args))
    model.swap(pictures[:1], pictures[8:9], [1], candidates=2, **SHORT)
    assert len(calls) == SHORT["steps"] - SHORT["skip"]
    assert len(Respaced(SHORT["steps"]).timesteps) == SHORT["steps"]


def test_without_parser_and_gaze_only_what_needs_neither_can_be_asked_for(checkpoint: Checkpoint, pictures: np.ndarray) -> None:
    bare = DiffFace.load(Checkpoint(checkpoint.path, checkpoint.options, {"arcface": checkpoint.components["arcface"]}))
    bare.guidance.copies = 3
    wanted = {"mask": "ellipse", "parsing": 0, "gaze": 0}
    pair = pictures[:2], pictures[8:10], [1, 2]
    for name, missing in (("mask", "face_parser"), ("parsing", "face_parser"), ("gaze", "face_parser")):
        left = {key: value for key, value in wanted.items() if key != name}
        with pytest.raises(InputError, match=rf"no component '{missing}'.*DiffFace.*`{name}: {wanted[name]}`"):
            bare.swap(*pair, candidates=1, **left, **SHORT)
    swapped = bare.swap(*pair, candidates=1, **wanted, **SHORT)
    outside = ellipse_mask(SIZE)[0, 0].numpy() == 0
    assert 0.1 < outside.mean() < 0.6
    assert np.abs(swapped[:, outside].astype(int) - pictures[8:10][:, outside]).max() <= 1
    assert not np.array_equal(swapped, bare.swap(*pair, candidates=1, **wanted, **SHORT, identity=0))


def test_the_ellipse_does_not_ask_the_parser(model: DiffFace, pictures: np.ndarray) -> None:
    sources, targets = to_float(pictures[:2]), to_float(pictures[8:10])
    with torch.no_grad():
        parsed, ellipse = model.guidance.prepare(sources, targets), model.guidance.prepare(sources, targets, "ellipse")
    assert torch.equal(ellipse.masks, ellipse_mask(SIZE).expand(2, -1, -1, -1))
    assert not torch.equal(parsed.masks, ellipse.masks)
    assert torch.equal(parsed.logits, ellipse.logits)
    assert parsed.boxes == ellipse.boxes


def test_identities_of_faces_are_those_that_swaps_are_judged_by(model: DiffFace, pictures: np.ndarray) -> None:
    vectors = model.embed_faces(pictures)
    assert vectors.shape[0] == 16
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([model.embed_faces(pictures[row : row + 1]) for row in range(16)])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    with torch.no_grad():
        scene = model.guidance.prepare(to_float(pictures[:2]), to_float(pictures[8:10]))
    np.testing.assert_allclose(vectors[:2], scene.identities.numpy(), atol=1e-5)
    result = model.run(SwapRequest([5], pictures[:1], pictures[8:9]), candidates=1, **SHORT)
    similarity = float(model.embed_faces(result.images)[0] @ vectors[0])
    assert result.columns["identity_similarity"] == [pytest.approx(similarity, abs=1e-4)]


def test_what_is_wrong_is_named(checkpoint: Checkpoint, model: DiffFace, pictures: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"component 'arcface'.*DiffFace"):
        DiffFace.load(Checkpoint(checkpoint.path, checkpoint.options))
    with pytest.raises(CheckpointError, match=r"Arcface\.tar is not DiffFace's UNet"):
        DiffFace.load(Checkpoint(checkpoint.components["arcface"].path, {}, checkpoint.components))
    with pytest.raises(InputError, match="skip 8"):
        model.swap(pictures[:1], pictures[8:9], [1], steps=8, skip=8)
    with pytest.raises(InputError, match="32x32"):
        model.swap(pictures[:1, :16, :16], pictures[8:9, :16, :16], [1])

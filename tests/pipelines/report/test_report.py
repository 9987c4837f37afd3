"""What the page shows of a chain, and the numbers of a subset."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.examine.diff import replaced_images
from pipelines.features import FeatureNetwork
from pipelines.images import decode
from pipelines.make.measures import face_distances, sharpness
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.report import write_report
from pipelines.report.album import Album
from pipelines.report.quality import feature_distances, fid, kid, subset_quality
from pipelines.report.strips import ids_of, strip
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import edited, fake_dataset, fake_generators, planned
from tests.support import small_manifest, write_manifest


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Store:
    folder, data = tmp_path_factory.mktemp("report"), small_manifest(checkpoints)
    data["faces"] = {"min_similarity": -1.0}
    data["subsets"].pop("DDIM")
    store = Store(folder / "store", "tiny")
    run_build(make_plan(load_manifest(write_manifest(folder / "m.yaml", data))), store, "cpu")
    return store


def test_a_strip_shows_source_target_each_step_and_the_difference_with_numbers(store: Store) -> None:
    rows = {row.id: row for row in store.rows()}
    final = next(row for row in rows.values() if row.subset == "SimSwap_Style2" and row.role == "final")
    wanted = ids_of(final)
    pixels = {row.id: decode(row.image, row.id) for row in store.rows(images=True) if row.id in wanted}
    cells = strip(final, rows, pixels, Album())
    assert [cell.caption for cell in cells] == ["source", "sample: stylegan2", "swap: simswap", "last step's difference x 4"]
    assert [cell.id for cell in cells] == [*wanted, None]
    similarity = final.measures["similarity"]
    assert cells[2].numbers[:2] == (
        f"to source {similarity['source']:.2f}, was {similarity['before']:.2f}",
        f"to target {similarity['target']:.2f}",
    )
    assert all(cell.picture.uri.startswith("data:image/webp;base64,") for cell in cells)


def test_a_strip_follows_the_attempts_that_succeeded() -> None:
    chain = [
        {"kind": "swap", "generator": "a", "attempt": 2, "source": "real/x", "target": "real/y"},
        {"kind": "edit", "generator": "b", "attempt": 0},
    ]
    row = Row("S/f/000001/1", "final", 1, "S", "f", "", "", 1, "train", "S/f/000001", "", "", step=1, chain=chain)
    assert ids_of(row) == ["real/x", "real/y", "S/f/000001/0.2", "S/f/000001/1"]


def test_a_small_picture_keeps_its_pixels_and_is_stored_once() -> None:
    album, noise = Album(), np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    first, again, large = album.add(noise, 96), album.add(noise.copy(), 160), album.add(np.kron(noise, np.ones((4, 4, 1), np.uint8)), 96)
    assert first == again
    assert (first.side, large.side) == (32, 96)
    assert album.pictures == [first, large]
    assert np.array_equal(decode(base64.b64decode(first.uri.partition(",")[2]), "picture"), noise)


def test_the_page_has_the_numbers_and_no_score_that_was_not_measured(tmp_path: Path, store: Store) -> None:
    page = write_report(store, tmp_path / "report.html").read_text()
    assert "to source" in page
    assert "FID" not in page
    assert "sharpness" in page


def test_a_version_without_an_audit_says_how_to_make_one(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for section in ("audit", "overview"):
        monkeypatch.setattr(f"pipelines.report.sections.dataset.{section}.read_audit", lambda *_: None)
    page = write_report(store, tmp_path / "report.html").read_text()
    assert "<strong>Not audited.</strong>" in page
    assert f"ntf audit tiny --store {store.root.location} --version 1" in page


def test_distances_of_features_are_known_ones() -> None:
    rng = np.random.default_rng(0)
    first, shifted = rng.normal(size=(4000, 4)), rng.normal(size=(4000, 4)) * 2 + 3
    assert fid(first, first) == pytest.approx(0, abs=1e-6)
    assert fid(first, shifted) == pytest.approx(4 * (9 + 1 + 4 - 2 * 2), rel=0.05)  # means 3 apart, deviations 1 and 2, four features
    assert abs(kid(first[:500], first[500:1000])) < 0.1 < kid(first[:500], shifted[:500])
    assert set(feature_distances(first[:20], first[20:40])) == {"fid", "kid"}
    assert set(feature_distances(rng.normal(size=(20, 64)), rng.normal(size=(20, 64)))) == {"kid"}, "more features than images"
    assert feature_distances(first[:3], first[3:6]) == {}


def test_a_feature_network_is_an_onnx_file(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "mean.onnx")
    features = FeatureNetwork(tmp_path / "mean.onnx").embed([np.full((16, 16, 3), (255, 51, 0), np.uint8)])
    assert features is not None
    assert np.allclose(features, [[1, 0.2, 0]])
    (tmp_path / "broken.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match=r"broken\.onnx"):
        FeatureNetwork(tmp_path / "broken.onnx")


def test_quality_is_of_what_was_measured() -> None:
    with_similarity = {"sharpness": 3.0, "similarity": {"before": 0.1, "source": 0.6, "target": 0.4}}
    quality = subset_quality([with_similarity, {"sharpness": 5.0}, {"sharpness": 100.0}], rejected=1)
    assert (quality.images, quality.rejected_share, quality.sharpness) == (3, 0.25, 5.0)
    assert (quality.similarity_before, quality.similarity_source, quality.similarity_target) == (0.1, 0.6, 0.4)
    assert (quality.pose_distance, quality.features) == (None, {})


def test_landmarks_tell_pose_from_expression() -> None:
    target = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)
    smile = target + np.array([[0, 0], [0, 0], [0, 0], [-4, -2], [4, -2]])
    assert face_distances(smile, target)["pose_distance"] == 0
    assert face_distances(smile, target)["expression_distance"] == pytest.approx(np.hypot(4, 2) / 40, abs=1e-4)
    moved = face_distances(target + 8, target)
    assert moved["expression_distance"] == 0
    assert moved["pose_distance"] == pytest.approx(np.hypot(8, 8) / 40, abs=1e-4)


def test_blurring_lowers_the_sharpness() -> None:
    import skimage.data

    picture = Image.fromarray(skimage.data.astronaut())
    small = picture.resize((64, 64)).resize(picture.size)
    assert sharpness(np.asarray(picture)) > 5 * sharpness(np.asarray(small)) > 0
    assert sharpness(np.full((8, 8, 3), 7, np.uint8)) == 0


def test_two_versions_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    with fake_generators():
        manifest = fake_dataset(tmp_path / "data", count=3)
        store = Store(tmp_path / "store", "fake")
        run_build(planned(manifest), store, "cpu")
        before = {row.id: row.image for row in store.rows("role = 'final'", images=True)}
        (tmp_path / "data" / "swapper.txt").write_text("9")
        run_build(planned(edited(manifest, Sampled=None)), store, "cpu")
        text = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
        replaced = replaced_images(store, 1, 2)
    rows = {row.id: row.image for row in store.rows("role = 'final'", images=True)}
    assert set(replaced) == {"Swapped", "Chained"} and all(before[old] != rows[new] for ids in replaced.values() for old, new in ids)
    section = text.partition("Version 1 and version 2 side by side")[2].partition("<h2")[0]
    counts = {
        name: re.findall(r"<td>([0-9,]+)</td>", cells) for name, cells in re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', section)
    }
    assert counts["Sampled"][:2] == ["3", "0"] and counts["Swapped"][:2] == ["3", "3"]
    for _, new in (pair for ids in replaced.values() for pair in ids):
        for shown in (f"version 1 of {new}", f"version 2 of {new}", f"difference of {new}"):
            assert f'aria-label="{shown}"' in section

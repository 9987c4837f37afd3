"""Losses at their limits, and the properties that the paper's equations promise. Their values are checked in tests/parity."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ntf_model.ntf import losses


def rows(count: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_one_picture_has_nothing_to_be_told_from() -> None:
    views = rows(2)
    loss = losses.nt_xent(views)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert views.grad.abs().max() < 1e-12


def test_equal_views_are_as_hard_as_guessing() -> None:
    views = torch.ones(12, 8, dtype=torch.float64)
    assert losses.nt_xent(views).item() == pytest.approx(math.log(11))


def test_a_repeated_picture_is_no_negative_of_itself() -> None:
    views = torch.cat([rows(3), rows(3)[[0, 1, 2]]]).detach()
    twice = torch.cat([views[:3], views[:1], views[3:], views[3:4]])  # picture 0 occurs twice
    source = torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])
    kept = losses.nt_xent(twice, source, reduction="sum") - losses.nt_xent(twice, reduction="sum")
    assert kept < 0


def test_homogeneous_takes_the_farthest_pair_of_different_pictures() -> None:
    features = torch.tensor([[0.0, 0], [3, 0], [0, 1], [0, 0.5]], dtype=torch.float64)
    source = torch.tensor([0, 0, 1, 1])
    assert losses.homogeneous(features, source, normalise=False).item() == pytest.approx(10.0)
    per_anchor = losses.homogeneous(features, source, over="anchors", normalise=False)
    assert per_anchor.item() == pytest.approx((1.0 + 10.0 + 10.0 + 9.25) / 4)


def test_homogeneous_is_zero_for_one_picture_and_for_equal_features() -> None:
    features = rows(4)
    alone = losses.homogeneous(features, torch.zeros(4, dtype=torch.long))
    alone.backward()
    assert alone.item() == 0
    assert torch.isfinite(features.grad).all()
    same = torch.ones(4, 8, dtype=torch.float64, requires_grad=True)
    equal = losses.homogeneous(same, torch.arange(4))
    equal.backward()
    assert equal.item() == 0
    assert torch.isfinite(same.grad).all()


def test_squared_orthogonality_is_lowest_at_right_angles_and_signed_at_opposites() -> None:
    a = torch.eye(2, dtype=torch.float64)[:1]
    right, opposite = torch.eye(2, dtype=torch.float64)[1:], -a
    assert losses.orthogonality(a, right).item() < losses.orthogonality(a, opposite).item()
    assert losses.orthogonality(a, opposite, form="signed").item() < losses.orthogonality(a, right, form="signed").item()


@pytest.mark.parametrize("real", [torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)])
def test_one_class_in_a_batch_stays_finite(real: torch.Tensor) -> None:
    features = rows(6)
    for loss in (
        losses.extended_supcon(features, real, rows(1, seed=1)[0].detach()),
        losses.extended_supcon(features, real, rows(1, seed=1)[0].detach(), log=False),
        losses.soft_supcon(features, real, rows(1, seed=1)[0].detach()),
    ):
        features.grad = None
        loss.backward(retain_graph=True)
        assert torch.isfinite(loss)
        assert torch.isfinite(features.grad).all()


def test_a_single_fake_has_no_positive_and_adds_nothing() -> None:
    features = rows(3)
    real = torch.tensor([True, True, False])
    trace = rows(1, seed=1)[0].detach()
    total = losses.extended_supcon(features, real, trace, reduction="sum")
    assert losses.extended_supcon(features, real, trace, reduction="mean_nonempty").item() == pytest.approx(total.item() / 2)
    assert losses.extended_supcon(features, real, trace).item() == pytest.approx(total.item() / 3)


def test_one_real_alone_is_pulled_to_the_trace_alone() -> None:
    features, trace = rows(1), rows(1, seed=1)[0].detach()
    assert losses.extended_supcon(features, torch.tensor([True]), trace).item() == pytest.approx(0.0, abs=1e-12)


def test_equal_features_are_as_hard_as_guessing() -> None:
    features = torch.ones(8, 4, dtype=torch.float64)
    real = torch.arange(8) < 4
    assert losses.extended_supcon(features, real, features[0]).item() == pytest.approx(math.log(8))


def test_a_step_down_moves_reals_to_the_trace_and_fakes_away() -> None:
    trace = F.normalize(rows(1, seed=3)[0].detach(), dim=0)
    features = rows(16, seed=4)
    real = torch.arange(16) < 8
    before = F.normalize(features.detach(), dim=1) @ trace
    losses.extended_supcon(features, real, trace).backward()
    after = F.normalize(features.detach() - 0.5 * features.grad, dim=1) @ trace
    assert (after - before)[real].mean() > 0
    assert (after - before)[~real].mean() < 0


def test_real_anchors_alone_do_not_draw_fakes_to_one_another() -> None:
    features, trace = rows(6), rows(1, seed=1)[0].detach()
    real = torch.arange(6) < 3
    z = F.normalize(features.detach(), dim=1)
    keys = torch.cat([z, F.normalize(trace, dim=0).unsqueeze(0)])
    terms = []
    for anchor in range(3):
        others = [key for key in range(7) if key != anchor]
        log_probability = torch.log_softmax(z[anchor] @ keys[others].T, 0)
        terms.append(-sum(log_probability[others.index(key)] for key in (0, 1, 2, 6) if key != anchor) / 3)
    loss = losses.extended_supcon(features, real, trace, temperature=1.0, anchors="real")
    assert loss.item() == pytest.approx(float(torch.stack(terms).mean()))
    assert losses.extended_supcon(features, ~(real | ~real), trace, anchors="real").item() == 0.0


def test_soft_loss_with_no_sharpness_is_equation_5() -> None:
    features, trace = rows(8), rows(1, seed=1)[0].detach()
    real = torch.arange(8) < 4
    soft = losses.soft_supcon(features, real, trace, sharpness=0.0)
    assert soft.item() == pytest.approx(losses.extended_supcon(features, real, trace).item())


def test_soft_loss_leaves_what_is_in_place_in_peace() -> None:
    trace = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    near = F.normalize(torch.tensor([0.9, 0.3, 0.1], dtype=torch.float64), dim=0)
    features = torch.stack([trace, trace, near, -trace])  # two reals on the trace, a fake near it, a fake as far as can be
    loss = losses.soft_supcon(features, torch.tensor([True, True, False, False]), trace, temperature=0.5)
    cosines = torch.stack([near @ trace, near @ trace, near @ trace, near @ -trace])  # the last is its only positive
    assert loss.item() == pytest.approx(-torch.log_softmax(cosines / 0.5, 0)[3].item())


def test_joint_losses_are_the_sums_of_their_terms() -> None:
    hom, het = rows(8), rows(8, seed=1)
    loss = losses.trace_loss(hom, het, torch.arange(4).repeat(2), lambda_=0.3)
    assert loss.total.item() == pytest.approx(float(loss.terms["hom"] + loss.terms["het"] + 0.3 * loss.terms["ort"]))
    assert set(losses.trace_loss(hom, het, torch.arange(4).repeat(2), terms=("hom",)).terms) == {"hom"}
    logits, fake = rows(8, 1, seed=2).squeeze(1), torch.arange(8) % 2
    joint = losses.detection_loss(hom, logits, fake, rows(1, seed=5)[0], gamma=0.5)
    assert joint.total.item() == pytest.approx(float(joint.terms["ext"] + 0.5 * joint.terms["ce"]))
    alone = losses.detection_loss(hom, logits, fake, rows(1, seed=5)[0], contrastive="none")
    assert alone.total.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, fake.double()).item())


def test_supcon_refuses_labels_and_a_mask_together() -> None:
    with pytest.raises(ValueError, match="not both"):
        losses.supcon(rows(4).reshape(2, 2, 8), torch.tensor([0, 1]), torch.eye(2))


def test_spread_tells_a_collapsed_trace() -> None:
    collapsed = losses.spread(torch.ones(6, 4))
    assert collapsed["std"] == pytest.approx(0.0)
    assert collapsed["min_cosine"] == pytest.approx(1.0)
    assert losses.spread(torch.eye(4))["min_cosine"] == pytest.approx(0.0)


def test_supcon_with_labels_is_the_loss_of_khosla_et_al() -> None:
    """Eq. 2 written out: for each view the mean over its positives of the log share among all other views."""
    features, labels = rows(8).detach().reshape(4, 2, 8), torch.tensor([0, 1, 0, 2])
    views = [(picture, features[picture, view]) for view in range(2) for picture in range(4)]
    terms = []
    for anchor, (picture, z) in enumerate(views):
        others = [place for place in range(8) if place != anchor]
        shares = torch.log_softmax(torch.stack([z @ views[place][1] for place in others]) / 0.07, 0)
        positives = [share for place, share in zip(others, shares, strict=True) if labels[views[place][0]] == labels[picture]]
        terms.append(-sum(positives) / len(positives))
    assert losses.supcon(features, labels).item() == pytest.approx(float(torch.stack(terms).mean()))
    same = labels.reshape(-1, 1) == labels.reshape(1, -1)
    assert losses.supcon(features, mask=same).item() == pytest.approx(losses.supcon(features, labels).item())
    assert losses.supcon(features).item() == pytest.approx(losses.supcon(features, torch.arange(4)).item())
    firsts = losses.supcon(features, labels, anchors="one").item()
    assert firsts == pytest.approx(float(torch.stack(terms[:4]).mean()))


def test_of_several_traces_all_take_part_and_the_closest_weighs() -> None:
    features, traces = rows(6).detach(), torch.eye(8, dtype=torch.float64)[:2]
    real = torch.arange(6) < 3
    whole = losses.extended_supcon(features, real, traces).item()
    assert whole == losses.extended_supcon(features, real, traces, nearest=False).item()
    assert whole != pytest.approx(losses.extended_supcon(features, real, traces, nearest=True).item())
    cosine = F.normalize(features, dim=1) @ traces.T
    closeness = (1 + cosine.max(1).values) / 2
    weight = torch.where(real, 1 - closeness, closeness)
    terms, _ = losses._extended(features, real, traces, 0.07, True, True)
    assert losses.soft_supcon(features, real, traces).item() == pytest.approx(float((weight * terms).sum() / weight.sum()))

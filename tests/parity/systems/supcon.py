"""Contrastive losses, values and gradients, against the official SupConLoss and SimCLR and this project's equations by slow loops."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import torch

from ntf_model.ntf import losses
from tests.parity.cases import Case

LOOPS = 1e-9  # the stored difference quotients are within 2e-10 of the derivative
GROUP = re.compile(r"(?P<group>.+)/(features|A)$")


def check(case: Case) -> None:
    groups = [match["group"] for name in sorted(case.arrays) if (match := GROUP.match(name))]
    assert groups, f"{case.id} holds no features"
    checked = sum(_check_group(case, group) for group in groups)
    assert checked, f"{case.id} has nothing to compare with"


def _check_group(case: Case, group: str) -> int:
    """Compares every stored output of a group, and says how many there were."""
    outputs = {name.removeprefix(f"{group}/") for name in case.arrays if name.startswith(f"{group}/")}
    checked = 0
    for name in sorted(outputs):
        if name in {"features", "labels", "source", "is_real", "hom", "A", "B"}:
            continue
        for form, compare in FORMS:
            if match := form.fullmatch(name):
                compare(case, group, match)
                checked += 1
                break
        else:
            raise AssertionError(f"{case.id}: no known quantity {group}/{name}")
    return checked


def _official(case: Case, group: str, match: re.Match) -> None:
    """SupConLoss: CASE/MODE/tT_btB/{loss,grad}{32,64}."""
    features = _leaf(case, f"{group}/features", bits=match["bits"])
    options = {"temperature": float(match["t"]), "base_temperature": float(match["bt"])}
    mode = match["mode"]
    if mode in {"labels", "labels_one"}:
        options |= {"labels": case.tensor(f"{group}/labels"), "anchors": "one" if mode == "labels_one" else "all"}
    elif mode.startswith("mask"):
        options |= {"mask": case.tensor("mask_matrix"), "anchors": "one" if mode.endswith("_one") else "all"}
    elif mode.startswith("simclr"):
        options |= {"anchors": "one" if mode.endswith("_one") else "all"}
    _compare(case, f"{group}/{match.string}", losses.supcon(features, **options), features, match["what"], _tolerance(case, match["bits"]))


def _simclr(case: Case, group: str, match: re.Match) -> None:
    """info_nce_loss: CASE/tT/{loss,grad}{32,64}; by loops, Eq. 1 or plain SupCon: CASE/tT/{loss,grad}."""
    features = _leaf(case, f"{group}/features", bits=match["bits"] or "64")
    options = {"temperature": float(match["t"])}
    if f"{group}/labels" in case.arrays:  # one view of each, and the labels say which belong together
        rows = torch.nn.functional.normalize(features, dim=1).unsqueeze(1)
        loss = losses.supcon(rows, case.tensor(f"{group}/labels"), base_temperature=float(match["t"]), **options)
    else:
        loss = losses.nt_xent(features, **options)
    _compare(case, f"{group}/{match.string}", loss, features, match["what"], _tolerance(case, match["bits"]))


def _maxpair(case: Case, group: str, match: re.Match) -> None:
    """Eq. 2: CASE/{raw,norm}/{samples,means}/{value,argpair,grad}."""
    features = _leaf(case, f"{group}/features")
    source = case.tensor(f"{group}/source")
    normalise = match["norm"] == "norm"
    loss = losses.homogeneous(features, source, of=match["of"], normalise=normalise)
    if match["what"] != "argpair":
        _compare(case, f"{group}/{match.string}", loss, features, match["what"], LOOPS)
        return
    first, second = case.arrays[f"{group}/{match.string}"].tolist()
    z = torch.nn.functional.normalize(features, dim=1) if normalise else features
    if match["of"] == "means":
        z = torch.stack([z[source == name].mean(0) for name in source.unique()])
    off = abs(float(((z[first] - z[second]).square().sum() - loss).detach()))
    assert off <= LOOPS, f"{case.id} {group}/{match.string}: the stored pair is not the farthest (off by {off:.3g})"


def _cosine(case: Case, group: str, match: re.Match) -> None:
    """Eq. 3: CASE/{paired,cross}_{mean_cos2,sum_cos}/{value,gradA,gradB}."""
    first, second = _leaf(case, f"{group}/A"), _leaf(case, f"{group}/B")
    form = "squared" if match["form"] == "mean_cos2" else "signed"
    loss = losses.orthogonality(first, second, form=form, pairs="rows" if match["pairs"] == "paired" else "all")
    leaf = second if match["what"] == "gradB" else first
    _compare(case, f"{group}/{match.string}", loss, leaf, match["what"][:4], LOOPS)


def _extended(case: Case, group: str, match: re.Match) -> None:
    """Eq. 5: CASE/{norm,rawS}/tT/{log,nolog}/{sum,mean_all,mean_nonempty,grad_mean_all,grad_hom_mean_all}."""
    scale = float(match["scale"] or 1)
    features, hom = (_leaf(case, f"{group}/{name}", scale=scale) for name in ("features", "hom"))
    what = match["what"]
    reduction = {"mean_all": "mean", "grad_mean_all": "mean", "grad_hom_mean_all": "mean"}.get(what, what)
    loss = losses.extended_supcon(
        features,
        case.tensor(f"{group}/is_real"),
        hom,
        temperature=float(match["t"]),
        log=match["log"] == "log",
        normalise=match["scale"] is None,
        reduction=reduction,
    )
    leaf = hom if what.startswith("grad_hom") else features
    _compare(case, f"{group}/{match.string}", loss, leaf, "grad" if what.startswith("grad") else "value", LOOPS)


NUMBER = r"[\d.]+"
FORMS: list[tuple[re.Pattern, Callable[[Case, str, re.Match], None]]] = [
    (re.compile(rf"(?P<mode>\w+)/t(?P<t>{NUMBER})_bt(?P<bt>{NUMBER})/(?P<what>loss|grad)(?P<bits>32|64)"), _official),
    (re.compile(rf"t(?P<t>{NUMBER})/(?P<what>loss|grad)(?P<bits>32|64)?"), _simclr),
    (re.compile(r"(?P<norm>raw|norm)/(?P<of>samples|means)/(?P<what>value|argpair|grad)"), _maxpair),
    (re.compile(r"(?P<pairs>paired|cross)_(?P<form>mean_cos2|sum_cos)/(?P<what>value|gradA|gradB)"), _cosine),
    (
        re.compile(
            rf"(?:norm|raw(?P<scale>{NUMBER}))/t(?P<t>{NUMBER})/(?P<log>log|nolog)/(?P<what>sum|mean_all|mean_nonempty|grad_mean_all|grad_hom_mean_all)"
        ),
        _extended,
    ),
]


def _leaf(case: Case, name: str, scale: float = 1.0, bits: str | None = "64") -> torch.Tensor:
    return (case.tensor(name).to(torch.float64 if bits == "64" else torch.float32) * scale).requires_grad_()


def _tolerance(case: Case, bits: str | None) -> float:
    """What the case suggests for float32; for float64 what the official code's float32 mask leaves, or the loops' accuracy."""
    if bits is None:
        return LOOPS
    return float(case.facts["tolerance"]["suggested_maxabs"]) if bits == "32" else 1e-7


def _compare(case: Case, name: str, loss: torch.Tensor, leaf: torch.Tensor, what: str, atol: float) -> None:
    """The loss, or its gradient with respect to `leaf`, against the stored array `name`."""
    got = loss if what not in {"grad"} else torch.autograd.grad(loss, leaf, allow_unused=True)[0]
    if got is None:
        got = torch.zeros_like(leaf)
    want = case.arrays[name]
    got = got.detach().numpy()
    assert got.shape == want.shape, f"{case.id} {name}: shape {got.shape}, stored {want.shape}"
    off = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)), initial=0.0))
    scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
    assert off <= atol * scale, f"{case.id} {name}: off by {off:.3g}, allowed {atol * scale:.3g}"

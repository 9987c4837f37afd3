"""The losses of Natural Trace Forensics, Eq. 1 to 7 of arXiv 2403.16513, each with the literal reading of the paper as an option.

Shapes: M views or N anchors of d features. Wherever `normalise` is true, features are divided by their L2 norm first.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

Reduction = Literal["mean", "sum"]
TINY = 1e-12  # the smallest norm that is divided by


class JointLoss(NamedTuple):
    """A joint loss and its terms, unweighted and detached, for the log."""

    total: torch.Tensor
    terms: dict[str, torch.Tensor]


def contrast(
    similarity: torch.Tensor, positives: torch.Tensor, allowed: torch.Tensor, temperature: float, *, log: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of each anchor, and whether it has a positive: `-1/|P(i)| sum over p in P(i) of log softmax over K(i) (s_ip / tau)`.

    `similarity` `[N, K]`; `positives` `[N, K]`, a weight for each pair (0 or 1 in the ordinary case); `allowed` bool `[N, K]`, the members
    of K(i). Without `log` the probability itself is averaged (Eq. 5 as printed). An anchor without positives has loss 0.
    """
    logits = (similarity / temperature).masked_fill(~allowed, -torch.inf)
    highest = logits.amax(1, keepdim=True).clamp_min(torch.finfo(logits.dtype).min).detach()  # all of K(i) may be missing
    denominator = (logits - highest).exp().sum(1, keepdim=True)
    log_probability = similarity / temperature - highest - denominator.clamp_min(torch.finfo(logits.dtype).tiny).log()
    count = positives.sum(1)
    has = count > 0
    value = torch.where(positives > 0, log_probability, 0.0)  # before exp: pairs outside K(i), an anchor with itself, could overflow
    value = value if log else value.exp()
    return torch.where(has, -(positives * value).sum(1) / torch.where(has, count, 1.0), 0.0), has


def supcon(
    features: torch.Tensor,
    labels: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    *,
    temperature: float = 0.07,
    base_temperature: float = 0.07,
    anchors: Literal["all", "one"] = "all",
) -> torch.Tensor:
    """Supervised contrastive loss, L_out of Khosla et al. 2020 (Eq. 2), as its authors compute it.

    `features` `[B, V, d]`, used as they are; `labels` `[B]`, or `mask` `[B, B]` whose entry (i, j) says that j is a positive of i, or
    neither for NT-Xent. `anchors` "one": only the first view of each is an anchor. The loss is scaled by `temperature / base_temperature`
    and averaged over all anchors, those without positives counting as 0. Raises ValueError if both labels and a mask are given.
    """
    if labels is not None and mask is not None:
        raise ValueError("give labels or a mask, not both")
    count, views = features.shape[:2]
    if labels is not None:
        mask = labels.reshape(-1, 1) == labels.reshape(1, -1)
    elif mask is None:
        mask = torch.eye(count, device=features.device)
    rows = features.transpose(0, 1).reshape(views * count, -1)  # all first views, then all second ones
    kept = views if anchors == "all" else 1
    others = ~torch.eye(views * count, dtype=torch.bool, device=features.device)[: kept * count]
    positives = mask.to(features.dtype).repeat(kept, views) * others
    terms, _ = contrast(rows[: kept * count] @ rows.T, positives, others, temperature)
    return terms.mean() * (temperature / base_temperature)


def nt_xent(
    features: torch.Tensor,
    source: torch.Tensor | None = None,
    *,
    temperature: float = 0.07,
    normalise: bool = True,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """L_het, Eq. 1: each view must find the other view of its picture among all. `features` `[2N, d]`, rows i and i + N are a pair.

    `source` int `[2N]` names the picture: where one occurs more than once in a batch, its further views are left out of K(i).
    Ours: mean over the 2N views, normalised. Literal: `normalise=False`, `reduction="sum"`.
    """
    z = _unit(features) if normalise else features
    pair = torch.eye(len(z), dtype=z.dtype, device=z.device).roll(len(z) // 2, 0)
    allowed = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    if source is not None:
        allowed &= (source.unsqueeze(0) != source.unsqueeze(1)) | pair.bool()
    terms, _ = contrast(z @ z.T, pair, allowed, temperature)
    return terms.mean() if reduction == "mean" else terms.sum()


def homogeneous(
    features: torch.Tensor,
    source: torch.Tensor,
    *,
    of: Literal["samples", "means"] = "samples",
    over: Literal["pairs", "anchors"] = "pairs",
    normalise: bool = True,
) -> torch.Tensor:
    """L_hom, Eq. 2: the largest squared distance between features of different pictures. `features` `[M, d]`, `source` int `[M]`.

    `over` "pairs": the one largest distance (the printed "max arg" read as max); "anchors": the largest distance of each view, averaged.
    `of` "means" compares the mean feature of each picture (not normalised again). Without two different sources it is 0.
    """
    z = _unit(features) if normalise else features
    if of == "means":
        names, which = source.unique(return_inverse=True)
        members = F.one_hot(which, len(names)).to(z.dtype)
        z, source = (members.T @ z) / members.sum(0).unsqueeze(1), names
    different = source.unsqueeze(0) != source.unsqueeze(1)
    if not bool(different.any()):
        return z.sum() * 0.0
    with torch.no_grad():
        distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").masked_fill(~different, -1.0)
        farthest, partner = distances.max(1)
    anchors = farthest.argmax().reshape(1) if over == "pairs" else torch.nonzero(farthest >= 0).squeeze(1)
    return (z[anchors] - z[partner[anchors]]).square().sum(1).mean()


def orthogonality(
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    form: Literal["squared", "signed"] = "squared",
    pairs: Literal["rows", "all"] = "rows",
) -> torch.Tensor:
    """L_ort, Eq. 3, between `first` `[N, d]` and `second` `[M, d]`.

    "squared" (ours): the mean of cos squared, lowest where the features are orthogonal. "signed" (as printed): the sum of cos, which is
    lowest where they point away from each other. `pairs` "rows" compares row i with row i; "all" every row with every row.
    """
    a, b = _unit(first), _unit(second)
    shared = min(len(a), len(b))
    cosine = (a[:shared] * b[:shared]).sum(1) if pairs == "rows" else a @ b.T
    return cosine.square().mean() if form == "squared" else cosine.sum()


def extended_supcon(
    features: torch.Tensor,
    is_real: torch.Tensor,
    trace: torch.Tensor,
    *,
    temperature: float = 0.07,
    log: bool = True,
    normalise: bool = True,
    reduction: Literal["mean", "mean_nonempty", "sum"] = "mean",
    anchors: Literal["all", "real"] = "all",
    nearest: bool = False,
) -> torch.Tensor:
    """L_ext, Eq. 5: supervised contrast between real and fake in which the natural trace takes part.

    `features` `[N, d]`, `is_real` bool `[N]`, `trace` `[d]` or `[T, d]` (z_hom). The trace is in P(i) and K(i) for real anchors, in K(i)
    alone for fake ones, and is never an anchor. Ours: with the logarithm, mean over all anchors. Literal: `log=False`,
    `reduction="sum"`. An anchor without positives adds 0; "mean_nonempty" does not count it. `anchors` "real" leaves fake anchors out:
    reals gather at the trace and fakes are pushed away, but not to one another. With
    `nearest` only the trace that is nearest to an anchor takes part for it.
    """
    terms, has = _extended(features, is_real, trace, temperature, log, normalise, nearest)
    if anchors == "real":
        terms, has = terms[is_real.bool()], has[is_real.bool()]
    if not len(terms):
        return features.sum() * 0.0
    if reduction == "mean_nonempty":
        return terms.sum() / has.sum().clamp_min(1)
    return terms.mean() if reduction == "mean" else terms.sum()


def soft_supcon(
    features: torch.Tensor, is_real: torch.Tensor, trace: torch.Tensor, *, temperature: float = 0.07, sharpness: float = 1.0
) -> torch.Tensor:
    """Our soft contrastive loss. The paper's second version names one; its formula is in no text that we have, and this one is our own.

    Eq. 5 treats every anchor alike: it is real or fake, 0 or 1. Here the pairs of anchor i count with the weight
    `w_i = (1 - c_i)^sharpness` if it is real and `c_i^sharpness` if it is fake, where `c_i = (1 + cos(z_i, trace)) / 2` says how close it
    is to the natural trace already (for several traces, the closest), and L_soft = sum w_i l_i / sum w_i with l_i the terms of Eq. 5. Reals
    that lie far from the trace are drawn in, fakes that lie near it are pushed away, and the others count little. No
    gradient passes through the weights. Shapes as in `extended_supcon`; `sharpness` 0 is `extended_supcon` itself.
    """
    with torch.no_grad():
        cosine = (_unit(features) @ _unit(torch.atleast_2d(trace)).T).amax(1)
        closeness = ((1 + cosine) / 2).clamp(0, 1)
        weight = torch.where(is_real.bool(), 1 - closeness, closeness).pow(sharpness)
        weight = weight / weight.sum().clamp_min(TINY)
    terms, _ = _extended(features, is_real, trace, temperature, log=True, normalise=True)
    return (weight * terms).sum()


def trace_loss(
    hom: torch.Tensor,
    het: torch.Tensor,
    source: torch.Tensor,
    *,
    lambda_: float = 0.1,
    temperature: float = 0.07,
    terms: tuple[str, ...] = ("hom", "het", "ort"),
    hom_over: Literal["pairs", "anchors"] = "pairs",
    orthogonal: Literal["squared", "signed"] = "squared",
    reduction: Reduction = "mean",
) -> JointLoss:
    """L_tra, Eq. 4: L_hom + L_het + lambda L_ort, of those `terms` that are asked for.

    `hom`, `het` `[2N, d]`, rows i and i + N two views of one picture; `source` int `[2N]` names the picture. `reduction` "sum" with
    `orthogonal="signed"` is the paper to the letter.
    """
    values = {}
    if "hom" in terms:
        values["hom"] = homogeneous(hom, source, over=hom_over)
    if "het" in terms:
        values["het"] = nt_xent(het, source, temperature=temperature, reduction=reduction)
    if "ort" in terms:
        values["ort"] = orthogonality(hom, het, form=orthogonal)
    weights = {"hom": 1.0, "het": 1.0, "ort": lambda_}
    total = sum((weights[name] * value for name, value in values.items()), hom.new_zeros(()))
    return JointLoss(total, {name: value.detach() for name, value in values.items()})


def detection_loss(
    features: torch.Tensor,
    logits: torch.Tensor,
    is_fake: torch.Tensor,
    trace: torch.Tensor,
    *,
    gamma: float = 0.5,
    contrastive: Literal["log", "literal", "soft", "reals", "none"] = "log",
    temperature: float = 0.07,
    nearest: bool = False,
) -> JointLoss:
    """L_d, Eq. 7: L_ext + gamma L_ce. L_ce (Eq. 6) is the ordinary binary cross-entropy, averaged over the batch.

    `features` `[N, d]` from the auxiliary head, `logits` `[N]` (positive = fake), `is_fake` `[N]`, `trace` as in `extended_supcon`.
    `contrastive`: Eq. 5 with its logarithm, as printed, our soft loss, Eq. 5 with real anchors alone, or none, which is cross-entropy alone
    at its full weight.
    """
    ce = F.binary_cross_entropy_with_logits(logits, is_fake.to(logits.dtype))
    if contrastive == "none":
        return JointLoss(ce, {"ce": ce.detach()})
    is_real = ~is_fake.bool()
    if contrastive == "soft":
        ext = soft_supcon(features, is_real, trace, temperature=temperature)
    elif contrastive == "literal":
        ext = extended_supcon(features, is_real, trace, temperature=temperature, log=False, reduction="sum")
    else:
        anchors: Literal["all", "real"] = "real" if contrastive == "reals" else "all"
        ext = extended_supcon(features, is_real, trace, temperature=temperature, anchors=anchors, nearest=nearest)
    return JointLoss(ext + gamma * ce, {"ext": ext.detach(), "ce": ce.detach()})


def spread(features: torch.Tensor) -> dict[str, float]:
    """How far `[M, d]` features are from being one point: mean standard deviation of the normalised features, least cosine of a pair.
    A std near 0 and a cosine near 1 say that they have collapsed to a prototype."""
    z = _unit(features.detach().float())
    return {"std": float(z.std(0, unbiased=False).mean()), "min_cosine": float((z @ z.T).min())}


def _extended(
    features: torch.Tensor,
    is_real: torch.Tensor,
    trace: torch.Tensor,
    temperature: float,
    log: bool,
    normalise: bool,
    nearest: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each anchor's term of Eq. 5, and whether it has positives."""
    real = is_real.bool()
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    positives = (real.unsqueeze(0) == real.unsqueeze(1)) & others
    trace = torch.atleast_2d(trace)
    keys = torch.cat([features, trace.to(features.dtype)])
    positives = torch.cat([positives, real.unsqueeze(1).expand(-1, len(trace))], 1)
    others = torch.cat([others, others.new_ones(len(features), len(trace))], 1)
    if normalise:
        features, keys = _unit(features), _unit(keys)
    if nearest:
        with torch.no_grad():
            chosen = F.one_hot((features @ keys[-len(trace) :].T).argmax(1), len(trace)).bool()
        positives = torch.cat([positives[:, : len(features)], positives[:, len(features) :] & chosen], 1)
        others = torch.cat([others[:, : len(features)], chosen], 1)
    return contrast(features @ keys.T, positives.to(features.dtype), others, temperature, log=log)


def _unit(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features, dim=-1, eps=TINY)

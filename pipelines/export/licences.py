"""May this be passed on? A simple rule over what the manifest and the catalogue state as licences; no legal advice.

| use | refused are licences that |
|---|---|
| `private` (stays with whoever built it) | nothing is refused |
| `research` (given to other researchers; the default) | forbid passing on ("no redistribution", "all rights reserved", ND) or name none \
("unknown", "as their pages state") |
| `commercial` | all that, and those for research or non-commercial use: "research", "non-commercial", NC |

A fake counts with the licences of every checkpoint in its chain, of its real source, and of the reals that it was made from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from generators.errors import InputError
from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.schema import Manifest
from pipelines.store import Version

Use = Literal["private", "research", "commercial"]
USES: tuple[Use, ...] = get_args(Use)

_NOT_PASSED_ON = re.compile(
    r"no[- ]redistribut|not be redistribut|all rights reserved|no[- ]?deriv|\bND\b|unknown|pages? states?|\bprivate\b", re.IGNORECASE
)
_NOT_SOLD = re.compile(r"non-?commercial|\bNC\b|\bresearch\b", re.IGNORECASE)


def licences_of(version: Version, subsets: Mapping[str, object]) -> dict[str, str]:
    """Every checkpoint and real source that the images of `subsets` (fakes by subset, reals by source) come from, with its licence."""
    manifest = Manifest.model_validate(version.manifest)
    entries = Catalogue.shipped().joined(manifest.checkpoints).entries
    licences: dict[str, str] = {}
    for name, _, part in manifest.walk():
        if name in subsets:
            for step in part.chain:
                licences[f"checkpoint {step.checkpoint}"] = entries[step.checkpoint].licence if step.checkpoint in entries else "unknown"
                for real in (step.source, step.target):
                    if real:
                        licences[f"real source {real}"] = manifest.reals[real].licence
    for name, source in manifest.reals.items():
        if name in subsets:
            licences[f"real source {name}"] = source.licence
    return dict(sorted(licences.items()))


def require_allowed(licences: Mapping[str, str], use: Use) -> None:
    """Raises InputError that names what forbids `use`."""
    refused = [f"{name} ({licence})" for name, licence in licences.items() if forbids(licence, use)]
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        fix = "Leave it out with --where, or keep the export to yourself with --use private"
        raise InputError(f"the licence of {refused[0]}{more} does not allow {use} use", fix)


def forbids(licence: str, use: Use) -> bool:
    """Does a licence, as it is stated, forbid that use?"""
    if use == "private":
        return False
    return bool(_NOT_PASSED_ON.search(licence)) or (use == "commercial" and bool(_NOT_SOLD.search(licence)))


def unsupported(whole: str | None, licences: Mapping[str, str]) -> str | None:
    """The first part whose licence forbids a use that the licence of the whole allows; None if there is none, or the whole has none."""
    if whole is None:
        return None
    allowed: list[Use] = [use for use in USES if not forbids(whole, use)]
    return next((name for name, licence in licences.items() if any(forbids(licence, use) for use in allowed)), None)

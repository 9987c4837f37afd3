"""New revisions of the Hugging Face repositories that checkpoints come from. Nothing is downloaded: a licence may stand before that."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from generators.files import write_json
from pipelines.catalogue.catalogue import Catalogue

REVISIONS_FILE = "hub.json"
TIMEOUT = 10.0  # seconds
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Revision:
    """A repository whose newest commit is another than at the last look, and the checkpoints that come from it."""

    repository: str
    before: str
    now: str
    checkpoints: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(self.checkpoints)
        return f"{self.repository} has a new revision {self.now[:12]} (was {self.before[:12]}): fetch it and add it again for {names}"


def new_revisions(catalogue: Catalogue, newest: Callable[[str], str] | None = None) -> list[Revision]:
    """The repositories that `catalogue` names whose newest commit has changed since the last look, which the checkpoint folder remembers.

    `newest` gives the commit of a repository. Without network, or with HF_HUB_OFFLINE set, nothing is looked at and one line is logged.
    """
    repositories: dict[str, list[str]] = {}
    for name, entry in catalogue.entries.items():
        if entry.hub:
            repositories.setdefault(entry.hub, []).append(name)
    if newest is None and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        log.info("HF_HUB_OFFLINE is set: no repository is looked at")
        return []
    file = catalogue.folder / REVISIONS_FILE
    known = _read(file.read_text(encoding="utf-8")) if file.is_file() else {}
    revisions, fresh = [], dict(known)
    for repository, names in repositories.items():
        try:
            now = (newest or _newest)(repository)
        except Exception as error:  # the network, the service or a gated repository, in many forms
            log.info("the revisions of %s and what follows are not looked at: %s", repository, str(error).split("\n", 1)[0])
            break
        fresh[repository] = now
        if known.get(repository, now) != now:
            revisions.append(Revision(repository, known[repository], now, tuple(names)))
    if fresh != known:
        catalogue.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, dict(sorted(fresh.items())), indent=1)
    return revisions


def _newest(repository: str) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().model_info(repository, timeout=TIMEOUT).sha)


def _read(text: str) -> dict[str, str]:
    """What was seen last. A damaged note only means that the next change goes unseen."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}

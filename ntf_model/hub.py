"""Detectors on the Hugging Face Hub, through `huggingface_hub.ModelHubMixin`: pushed as safetensors and JSON with a model card, and read
again as safetensors and JSON alone. Code that a detector stands on is refused as `ntf_model.own_code` refuses it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from foreign.text import reason
from ntf_model.errors import InputError

REPOSITORY = "https://arxiv.org/abs/2403.16513"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # organisation and name
KEPT = ("*.json", "*.safetensors")  # nothing else is fetched: no pickle, no code

CARD = """---
{{ card_data }}
---

# {{ title }}

A detector of fake images, trained with the Natural Trace Foundry as `{{ name }}`. It gives the probability that an image was made or
changed by a generator.

```python
from {{ module }} import {{ class_name }}

detector = {{ class_name }}.from_pretrained("{{ repo_id }}")
print(detector(["photo.png"]))
```

## Verdicts

{{ verdicts }}

{% if calibration %}The probability is calibrated at temperature {{ "%.3f" | format(calibration.temperature) }}, fitted on
{{ calibration.real | length }} real and {{ calibration.fake | length }} fake validation images.
{% endif %}The threshold above which an image is called fake is {{ "%.4f" | format(threshold) }}.
{% if note %}
{{ note }}.
{% endif %}{% if results %}
## Results

{{ results }}
{% endif %}
## Limits

None of these figures holds for images that are unlike those of training and validation. The fakes of a generator that training did not have
may be called real. A verdict is no proof, and about a person it must not be the only evidence.

## Settings

```json
{{ config }}
```
"""


class HubModel(
    ModelHubMixin,
    library_name="natural-trace-foundry",
    pipeline_tag="image-classification",
    tags=["fake-image-detection", "natural-trace-forensics"],
    paper_url=REPOSITORY,
    model_card_template=CARD,
):
    """A detector as the Hub's mixin wants one: `content` has `save_pretrained(folder)` and what the card says."""

    def __init__(self, content: Any, licence: str | None = None):
        self.content, self.licence = content, licence

    def _save_pretrained(self, save_directory: Path) -> None:
        self.content.save_pretrained(save_directory)

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        load: Callable[[Path], Any],
        **_: Any,
    ) -> HubModel:
        options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "token": token}
        options |= {"force_download": force_download, "local_files_only": local_files_only}
        folder = Path(snapshot_download(model_id, allow_patterns=list(KEPT), **options))
        return cls(load(folder))

    def generate_model_card(self, *args: Any, **facts: Any) -> ModelCard:
        """The card, with the detector's own facts; `facts` may add `results`, Markdown of an evaluation."""
        if self.licence:
            self._hub_mixin_info.model_card_data.license = self.licence
        kind, content = type(self.content), self.content
        config = content.config.model_dump(mode="json") if hasattr(content, "config") else {}
        known = {
            "title": content.title,
            "name": content.name,
            "module": kind.__module__,
            "class_name": kind.__name__,
            "verdicts": content.verdicts_said,
            "calibration": content.calibration,
            "threshold": content.threshold,
            "note": content.note,
            "config": json.dumps(config, indent=1),
            "repo_id": "ORGANISATION/NAME",
            "results": "",
        }
        return super().generate_model_card(*args, **{**known, **facts})


def is_hub_name(name: object) -> bool:
    """Whether `name` is text such as "org/name" and no folder of this machine."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None and not Path(name).exists()


def push(content: Any, repo_id: str, *, licence: str | None = None, results: str = "", **options: Any) -> str:
    """Writes a detector into the repository `repo_id`, which is made if it is not there, and returns the commit's address. `options` are
    those of `ModelHubMixin.push_to_hub` (`private`, `token`, `commit_message`, `branch`). InputError if the Hub refuses."""
    facts = {"repo_id": repo_id, "results": results}
    try:
        return str(HubModel(content, licence).push_to_hub(repo_id, model_card_kwargs=facts, **options))
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{repo_id} cannot be written on the Hub ({reason(error)})", "Check the name, `hf auth login`, and the network"
        ) from None


def fetch(name: str, load: Callable[[Path], Any], **options: Any) -> Any:
    """What `load` makes of the files of the repository `name`, downloaded or from the cache. `options` are `revision`, `token`,
    `cache_dir`, `force_download` and `local_files_only`. InputError if it is not there, cannot be fetched, or needs somebody's code."""
    try:
        return HubModel.from_pretrained(name, load=load, **options).content
    except InputError:
        raise
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{name} holds no trained detector: it is no folder here, and cannot be fetched from the Hub ({reason(error)})",
            "Check the name, and HF_HUB_OFFLINE",
        ) from None

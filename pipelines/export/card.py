"""The card of a dataset on the Hugging Face Hub, through `huggingface_hub.DatasetCard`, and the picture in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from foreign.text import markdown_text
from pipelines.export import datasheet
from pipelines.export.facts import Facts
from pipelines.images import decode
from pipelines.report.sheets import labelled_sheet
from pipelines.store.schema import SCHEMA

PICTURE = "sheet.webp"  # beside the card
PICTURE_COLUMNS, PICTURE_ROWS = 8, 12  # reals and fakes of each subset, of at most so many subsets
OTHER = "other"  # the Hub's word for a licence that it has no name of
# The Hub's names of licences that datasets have; any other text is `other` with a name of its own.
HUB_LICENCES = re.compile(
    r"(apache-2\.0|mit|openrail|creativeml-openrail-m|unlicense|pddl|odbl|odc-by|c-uda|gpl-3\.0|lgpl-3\.0|agpl-3\.0|bsd-[23]-clause|"
    r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-(2\.0|2\.5|3\.0|4\.0)|cdla-(permissive-[12]\.0|sharing-1\.0))"
)
SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7), ("10M<n<100M", 10**8))
COLUMNS = {
    "image": "The image. `datasets` decodes it.",
    "label": "0 real, 1 fake (a ClassLabel).",
    "subset": "The chain that made a fake, or the source of a real.",
    "real": "The real source that a fake is compared with.",
    "family": "GAN, DM, multi-step or real.",
    "split": "train, validation or test: by photograph and person.",
    "chain": "JSON: every step, with generator, checkpoint sha256, parameters and seed.",
    "seed": "The seed of the last step.",
    "target_id, source_id": "The images that it was made from.",
    "identity, group": "Who is shown, as far as it is known, and what decides the split.",
    "measures": "JSON: what was measured while it was made (similarities, boxes, sharpness).",
    "mask": "White where a fake was reworked, if that is known.",
    "id, sha256, phash": "Its name, and the hashes of its file and of what it looks like.",
    "licence": "Of the last checkpoint, or of the real source.",
}
SNIPPETS = {
    "parquet": 'from datasets import load_dataset\n\ndataset = load_dataset("{name}", split="{split}")\n'
    'print(dataset[0]["label"], dataset[0]["subset"], dataset[0]["image"].size)',
    "webdataset": 'import json\nfrom datasets import load_dataset\n\ndataset = load_dataset("{name}", split="{split}", streaming=True)\n'
    'sample = next(iter(dataset))\nprint(sample["json"]["subset"], json.loads(sample["json"]["chain"]))',
}

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

{{ description }}

![A row of pictures of each subset, and of the real images]({{ picture }})

{{ images }} images at {{ size }}: {{ fakes }} fakes and {{ reals }} reals{{ retouched }}. Version {{ version }}, digest
`{{ digest }}`.

## Load it

```python
{{ snippet }}
```

Every file's sha256 is in `SHA256SUMS` (`sha256sum -c SHA256SUMS`). `croissant.json` is the metadata for machines, with the provenance in
W3C PROV, and `rows.jsonl` has a line for each image.

## Columns

| column | what it is |
|---|---|
{% for name, text in columns %}| {{ name }} | {{ text }} |
{% endfor %}
{{ datasheet }}
## Cite it

```bibtex
{{ bibtex }}
```
"""


def render_card(facts: Facts) -> str:
    """The README that the Hub shows; its head names the data files of each split, so that the Hub's viewer shows them."""
    stated = facts.publication
    paths = {"parquet": "data/{}-*.parquet", "webdataset": "{}-*.tar"}
    files = [{"split": split, "path": paths.get(facts.form, "{}/**").format(split)} for split in facts.splits]
    data = DatasetCardData(
        **_licence(facts),
        pretty_name=facts.title,
        size_categories=[size_category(facts.images)],
        task_categories=["image-classification"],
        annotations_creators=["machine-generated"],
        tags=list(dict.fromkeys(["fake-image-detection", "synthetic", "natural-trace-foundry", *stated.tags])),
        configs=[{"config_name": "default", "data_files": files}],
        **_features(facts),
    )
    snippet = SNIPPETS["webdataset" if facts.form == "webdataset" else "parquet"]
    _, _, body = datasheet.render(facts).partition("\n## What is in it\n")
    card = DatasetCard.from_template(
        data,
        template_str=TEMPLATE,
        title=markdown_text(facts.title),
        picture=PICTURE,
        description=stated.description or datasheet.PURPOSE,
        images=f"{facts.images:,}",
        fakes=f"{facts.of_label('final'):,}",
        reals=f"{facts.of_label('real'):,}",
        retouched=facts.retouched,
        size=datasheet.said(facts.manifest.size),
        version=facts.version,
        digest=facts.digest,
        snippet=snippet.format(name=facts.repository or "ORGANISATION/NAME", split=facts.splits[0]),
        columns=list(COLUMNS.items()),
        datasheet=f"## What is in it\n{body}",
        bibtex=bibtex(facts),
    )
    return str(card)


def size_category(images: int) -> str:
    """The Hub's category of a number of images, such as "1K<n<10K"."""
    return next((name for name, bound in SIZES if images < bound), "100M<n<1B")


def bibtex(facts: Facts) -> str:
    """The citation that the publisher states, or an entry made of what is known: no author is invented."""
    if facts.publication.citation:
        return facts.publication.citation.strip()
    names = " and ".join(
        f"{{{creator.name}}}" if creator.kind == "organisation" else creator.name for creator in facts.publication.creators
    )
    lines = {
        "title": f"{{{facts.title}}}",
        "author": names,
        "year": f"{facts.created:%Y}",
        "version": str(facts.version),
        "url": facts.url or "",
        "note": f"digest {facts.digest}",
    }
    body = ",\n".join(f"  {key} = {{{text}}}" for key, text in lines.items() if text)
    return f"@misc{{{re.sub(r'[^A-Za-z0-9]', '', facts.name)}{facts.created:%Y},\n{body}\n}}"


class Samples:
    """The first few encoded images of each subset and real source, as they pass by."""

    def __init__(self) -> None:
        self._images: dict[str, list[bytes]] = {}

    def add(self, image: bytes, row: Mapping[str, Any]) -> None:
        kept = self._images.setdefault(row["subset"], [])
        if len(kept) < PICTURE_COLUMNS:
            kept.append(image)

    def picture(self, facts: Facts) -> bytes:
        """A sheet (WebP) with a named row for each real source and each subset, of at most `PICTURE_ROWS` of them."""
        names = sorted(self._images, key=lambda name: (name in facts.manifest.subsets, name))
        rows = [(name, [decode(image, name) for image in self._images[name]]) for name in names[:PICTURE_ROWS]]
        more = len(names) - len(rows)
        return labelled_sheet(rows, f"and {more:,} more" if more else "")


def _features(facts: Facts) -> dict[str, Any]:
    """The types of what is in the tars of a WebDataset. `datasets` would guess them from the first five samples, fail where only some of
    them have a mask, and drop what is empty in all of them. Parquet files have their types in themselves."""
    if facts.form != "webdataset":
        return {}
    row = [{"name": column.name, "dtype": str(column.type)} for column in SCHEMA if column.name not in ("image", "mask")]
    label = {"class_label": {"names": {"0": "real", "1": "fake"}}}
    fields = [{"name": facts.suffix, "dtype": "image"}, {"name": "cls", "dtype": label}, {"name": "json", "struct": row}]
    fields += [{"name": "mask.png", "dtype": "image"}, {"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]
    return {"dataset_info": {"features": fields}}


def _licence(facts: Facts) -> dict[str, Any]:
    """The card's licence fields: the licence stated for the whole, or `other` with the list of the parts' licences."""
    stated = facts.publication
    if stated.licence and HUB_LICENCES.fullmatch(stated.licence.lower()):
        return {"license": stated.licence.lower()}
    if stated.licence:
        return {"license": OTHER, "license_name": stated.licence, "license_link": stated.licence_url or "DATASHEET.md"}
    return {"license": OTHER, "license_name": "as-listed-for-each-part", "license_link": "DATASHEET.md"}

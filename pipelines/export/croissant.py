"""Croissant 1.1 metadata of an export (mlcommons.org/croissant) over its `rows.jsonl`, with its provenance in W3C PROV.

What follows from the records is stated. Creators, address and responsible-AI statements are those of the manifest's block `publish`. What
it does not state is left out, so that mlcroissant warns of a missing creator rather than showing an invented one.
"""

from __future__ import annotations

from typing import Any

from pipelines.export import datasheet
from pipelines.export.card import bibtex
from pipelines.export.facts import Facts
from pipelines.export.prov import provenance
from pipelines.manifest.publication import Creator
from pipelines.manifest.sizes import preparation, said

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
# Column of `rows.jsonl`: its type, what it is, and the property of PROV that it stands for.
FIELDS = {
    "id": ("sc:Text", "The image's name, unique in the version.", ""),
    "file": ("sc:Text", "The file that holds the image.", ""),
    "label": ("sc:Integer", "1 fake, 0 real.", ""),
    "subset": ("sc:Text", "The chain that made a fake, or the source of a real.", ""),
    "family": ("sc:Text", "GAN, DM, multi-step or real.", ""),
    "split": ("sc:Text", "train, validation or test.", ""),
    "seed": ("sc:Integer", "The seed of the last step.", ""),
    "width": ("sc:Integer", "In pixels.", ""),
    "height": ("sc:Integer", "In pixels.", ""),
    "sha256": ("sc:Text", "Of the encoded image as it is in the store.", ""),
    "licence": ("sc:Text", "Of the last checkpoint, or of the real source.", ""),
    "target_id": ("sc:Text", "The image that this one was made from; empty where it was made from a seed.", "prov:wasDerivedFrom"),
    "source_id": ("sc:Text", "The real image whose identity was put on it, or from which a real was read.", "prov:wasDerivedFrom"),
}
ENCODINGS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
ABSENT = {"rai:dataBiases": "biases", "rai:dataLimitations": "limitations", "rai:dataUseCases": "use_cases"}
ABSENT |= {"rai:dataSocialImpact": "social_impact", "rai:personalSensitiveInformation": "sensitive"}
ABSENT |= {"rai:dataReleaseMaintenancePlan": "maintenance"}
MANY = ("rai:dataBiases", "rai:dataLimitations", "rai:dataUseCases", "rai:personalSensitiveInformation")


def metadata(facts: Facts, index_sha256: str) -> dict[str, Any]:
    """The JSON-LD document. `index_sha256` is that of the export's `rows.jsonl`."""
    stated = facts.publication
    page = {"url": facts.url} if facts.url else {}
    creators = {"creator": [_agent(creator) for creator in stated.creators]} if stated.creators else {}
    licence = stated.licence_url or stated.licence
    texts = {key: getattr(stated.responsible_ai, name) for key, name in ABSENT.items()}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": facts.title,
        "description": f"{stated.description or datasheet.PURPOSE} {facts.images:,} images at {said(facts.manifest.size)}. "
        f"Digest {facts.digest}.",
        "version": f"{facts.version}.0.0",
        "datePublished": facts.created.strftime("%Y-%m-%d"),
        **page,
        "license": licence or list(dict.fromkeys(facts.licences.values())),
        "citeAs": bibtex(facts),
        **creators,
        **({"keywords": list(stated.tags)} if stated.tags else {}),
        "rai:dataCollection": datasheet.COLLECTION,
        "rai:dataCollectionType": ["Synthetic generation", "Secondary data analysis"],
        "rai:dataPreprocessingProtocol": [f"{preparation(facts.manifest.size)}, encoded as {facts.manifest.codec.format}."],
        "rai:dataAnnotationProtocol": "Labels follow from how each image came to be; nobody annotated.",
        **{key: [text] if key in MANY else text for key, text in texts.items() if text},
        **provenance(facts),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "rows.jsonl",
                "name": "rows.jsonl",
                "description": "One line for each image, with the chain that made it.",
                "contentUrl": "rows.jsonl",
                "encodingFormat": "application/jsonlines",
                "sha256": index_sha256,
            },
            _images(facts),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "key": {"@id": "rows/id"},
                "field": [_field(name, *facts_of) for name, facts_of in FIELDS.items()],
            }
        ],
    }


def _images(facts: Facts) -> dict[str, Any]:
    """The set of the files that hold images."""
    codec, suffix = facts.manifest.codec.format, facts.suffix
    patterns = {
        "folders": (f"**/*.{suffix}", ENCODINGS[codec]),
        "imagefolder": (f"**/*.{suffix}", ENCODINGS[codec]),
        "webdataset": ("*.tar", "application/x-tar"),
        "parquet": ("data/*.parquet", "application/x-parquet"),
        "lance": ("*.lance/**", "application/octet-stream"),
    }
    includes, encoding = patterns[facts.form]
    inside = "" if facts.form in ("folders", "imagefolder") else f" The images in it are {codec.upper()}."
    return {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "description": f"The images, as {facts.form}.{inside}",
        "encodingFormat": encoding,
        "includes": includes,
    }


def _field(name: str, kind: str, text: str, equivalent: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": "rows.jsonl"}, "extract": {"column": name}}
    same = {"equivalentProperty": equivalent} if equivalent else {}
    return {"@type": "cr:Field", "@id": f"rows/{name}", "name": name, "description": text, "dataType": kind, **same, "source": source}


def _agent(creator: Creator) -> dict[str, Any]:
    kind = "sc:Person" if creator.kind == "person" else "sc:Organization"
    return {"@type": kind, "name": creator.name, **({"url": creator.url} if creator.url else {})}

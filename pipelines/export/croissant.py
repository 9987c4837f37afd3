"""Croissant 1.0 metadata of an export (mlcommons.org/croissant), with the responsible-AI fields, over its `rows.jsonl`."""

from __future__ import annotations

from typing import Any

from pipelines.export import datasheet
from pipelines.export.datasheet import Facts
from pipelines.manifest.sizes import preparation, said

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
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
FIELDS = {
    "id": ("sc:Text", "The image's name, unique in the version."),
    "file": ("sc:Text", "The file that holds the image."),
    "label": ("sc:Integer", "1 fake, 0 real."),
    "subset": ("sc:Text", "The chain that made a fake, or the source of a real."),
    "family": ("sc:Text", "GAN, DM, multi-step or real."),
    "split": ("sc:Text", "train, validation or test."),
    "seed": ("sc:Integer", "The seed of the last step."),
    "width": ("sc:Integer", "In pixels."),
    "height": ("sc:Integer", "In pixels."),
    "sha256": ("sc:Text", "Of the encoded image as it is in the store."),
    "licence": ("sc:Text", "Of the last checkpoint, or of the real source."),
}
IMAGES = {
    "folders": ("**/*.png", "image/png"),
    "imagefolder": ("*/*.png", "image/png"),
    "webdataset": ("*.tar", "application/x-tar"),
    "parquet": ("data/*.parquet", "application/x-parquet"),
    "lance": ("*.lance/**", "application/octet-stream"),
}


def metadata(facts: Facts, index_sha256: str) -> dict[str, Any]:
    """The JSON-LD document. `index_sha256` is that of the export's `rows.jsonl`."""
    includes, encoding = IMAGES[facts.form]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": facts.name,
        "description": f"{datasheet.PURPOSE} {facts.images:,} images at {said(facts.manifest.size)}. Digest {facts.digest}.",
        "version": f"{facts.version}.0.0",
        "datePublished": facts.created.strftime("%Y-%m-%d"),
        "url": "https://natural-trace-foundry.example/" + facts.name,
        "license": list(dict.fromkeys(facts.licences.values())),
        "citeAs": f"{facts.name}, version {facts.version}, digest {facts.digest}",
        "creator": {"@type": "sc:Organization", "name": "whoever built it with Natural Trace Foundry"},
        "rai:dataCollection": datasheet.COLLECTION,
        "rai:dataCollectionType": ["Synthetic generation", "Secondary data analysis"],
        "rai:dataPreprocessingProtocol": [f"{preparation(facts.manifest.size)}, encoded as {facts.manifest.codec.format}."],
        "rai:dataAnnotationProtocol": "Labels follow from how each image came to be; nobody annotated.",
        "rai:dataBiases": [datasheet.BIASES],
        "rai:dataLimitations": [datasheet.LIMITATIONS],
        "rai:dataUseCases": [datasheet.USES],
        "rai:dataSocialImpact": "Better detectors of manipulated faces; a person may be wrongly accused on a detector's word.",
        "rai:personalSensitiveInformation": [datasheet.SENSITIVE],
        "rai:dataReleaseMaintenancePlan": "Versions are immutable; a person who asks is left out of the next one.",
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
            {
                "@type": "cr:FileSet",
                "@id": "images",
                "name": "images",
                "description": f"The images, as {facts.form}.",
                "encodingFormat": encoding,
                "includes": includes.replace("png", _suffix(facts)),
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "key": {"@id": "rows/id"},
                "field": [_field(name, kind, text) for name, (kind, text) in FIELDS.items()],
            }
        ],
    }


def _field(name: str, kind: str, text: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": "rows.jsonl"}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": f"rows/{name}", "name": name, "description": text, "dataType": kind, "source": source}


def _suffix(facts: Facts) -> str:
    return "jpg" if facts.manifest.codec.format == "jpeg" else facts.manifest.codec.format

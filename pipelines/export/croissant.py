"""Croissant 1.1: `croissant.json`, a description of an `hf` export for catalogues of data sets, with its provenance.

Provenance is PROV-O: the data set is derived from each source, an entity with the identity of its files, and generated
by each step, an activity with its key and what it dropped. The digests of the Parquet files are SHA-256, as Croissant
asks for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.export.facts import Facts, SourceFacts
from pipelines.ledger.manifest import Manifest

NAME = "croissant.json"

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}

_TYPES = {"string": "sc:Text", "bool": "sc:Boolean", "float": "sc:Float", "double": "sc:Float"}


def croissant(known: Facts, folder: Path, files: Sequence[str]) -> str:
    """The document, as JSON. files: the Parquet files of the export in `folder`, relative to it."""
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": known.run,
        "description": (
            f"An instruction-tuning corpus of {known.rows} rows from {len(known.sources)} sources, built with Winnow "
            f"{known.winnow}. Not known: {'; '.join(known.missing) or 'nothing'}."
        ),
        "version": "1.0.0",
        "dateCreated": known.finished,
        "sc:size": known.rows,
        "distribution": [*(_file(folder, name) for name in files), _file_set(files)],
        "recordSet": [_records(known)],
        "prov:wasDerivedFrom": [_source(source) for source in known.sources],
        "prov:wasGeneratedBy": [_step(step, known.winnow) for step in known.steps],
    }
    if known.licences:
        document["license"] = list(known.licences)
    if known.languages is not None:
        document["inLanguage"] = list(known.languages)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _file(folder: Path, name: str) -> dict[str, Any]:
    with (folder / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{(folder / name).stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }


def _file_set(files: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "parquet",
        "name": "parquet",
        "containedIn": [{"@id": name} for name in files],
        "encodingFormat": "application/x-parquet",
        "includes": "*.parquet",
    }


def _records(known: Facts) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "key": {"@id": "records/id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"records/{name}",
                "name": name,
                "dataType": _TYPES.get(kind, "sc:Integer" if "int" in kind else "sc:Text"),
                "source": {"fileSet": {"@id": "parquet"}, "extract": {"column": name}},
            }
            for name, kind in known.columns.items()
            if name != "digest"
        ],
    }


def _source(source: SourceFacts) -> dict[str, Any]:
    """A source as an entity. Who wrote its text is an agent; what is not known is left out."""
    entity: dict[str, Any] = {
        "@type": "prov:Entity",
        "@id": f"source/{source.name}",
        "name": source.title or source.name,
        "identifier": [f"{file.name}: {file.identity}" for file in source.files],
        "sc:size": source.rows,
    }
    if source.home is not None and "://" in source.home:
        entity["url"] = source.home
    if source.licence is not None:
        entity["license"] = source.licence
    if source.revision is not None:
        entity["version"] = source.revision
    if source.generators:
        entity["prov:wasAttributedTo"] = [
            {"@type": "prov:SoftwareAgent", "@id": f"model/{_identifier(name)}", "name": name}
            for name in source.generators
        ]
    return entity


def _identifier(name: str) -> str:
    """A name as part of an `@id`, which has no white space."""
    return re.sub(r"[^\w.\-]+", "-", name)


def _step(step: Manifest, version: str) -> dict[str, Any]:
    """A step as an activity."""
    dropped = ", ".join(f"{rows} {reason}" for reason, rows in step.reasons.items())
    activity: dict[str, Any] = {
        "@type": "prov:Activity",
        "@id": f"step/{step.folder}",
        "name": step.step,
        "identifier": step.key,
        "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "@id": "winnow", "name": f"Winnow {version}"},
    }
    if step.rows_in is not None:
        rows = f"{step.rows_in} rows in, {step.rows_kept} kept, {step.rows_dropped} dropped"
        activity["description"] = f"{rows}: {dropped}" if dropped else rows
    return activity

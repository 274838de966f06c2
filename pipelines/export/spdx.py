"""SPDX 3.0.1: `corpus.spdx.json`, the corpus and its sources as data set packages, for bills of materials.

The dataset profile asks for the time of release and the place of download, which a ledger does not know. They are left
out and listed in the comment of the document, which therefore does not claim conformance to that profile: add them,
and `dataset` to `profileConformance`, when the corpus is published. A licence that SPDX does not list is a
`LicenseRef-`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.export.export import Exported
from pipelines.export.facts import Facts, SourceFacts, export_document
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun

NAME = "corpus.spdx.json"

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"

NO_LICENCE = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"
"""No statement about a licence is made."""

LISTED = (
    *("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "CC0-1.0"),
    *("CDLA-Permissive-2.0", "ODC-By-1.0"),
)
"""Licences of sources that are on SPDX's list under these names."""

TO_COMPLETE = (
    "releaseTime: when the corpus was published",
    "software_downloadLocation: where it can be obtained",
    "suppliedBy: who publishes it",
)
"""What the dataset profile asks for and no ledger knows."""


def export(run: RecordedRun, out: str) -> Exported:
    """Write the SPDX document of a run. Raises: as `export.Export`."""
    return export_document(run, out, NAME, spdx)


def spdx(known: Facts) -> str:
    """The document, as JSON-LD."""
    document = _Document(known)
    corpus = document.add(_corpus(known))
    for source in known.sources:
        package = document.add(_source(source))
        document.relate(corpus, "descendantOf", [package])
        document.license(package, "hasDeclaredLicense", (source.licence,))
        document.license(package, "hasConcludedLicense", (None,))
        models = [document.add(_model(name)) for name in source.generators or ()]
        for model in models:
            document.relate(model, "generates", [package])
    licences = [source.licence for source in known.sources if source.rows]
    document.license(corpus, "hasDeclaredLicense", licences)
    document.license(corpus, "hasConcludedLicense", (None,))
    return json.dumps(document.value(corpus), indent=2, ensure_ascii=False) + "\n"


Element = dict[str, Any]


class _Document:
    """Elements, each once, under addresses below that of the run."""

    def __init__(self, known: Facts) -> None:
        self.known = known
        self.base = f"urn:winnow:{known.run}"
        self.elements: dict[str, Element] = {}
        self.agent = self.add({"type": "SoftwareAgent", "id": "winnow", "name": f"Winnow {known.winnow}"})

    def add(self, element: Element) -> str:
        """Add an element, and return its address. `id` is its name in the document."""
        address = f"{self.base}:{element['id']}"
        if address not in self.elements:
            own = {key: value for key, value in element.items() if key != "id"}
            self.elements[address] = {"spdxId": address, "creationInfo": "_:creation", **own}
        return address

    def relate(self, source: str, kind: str, targets: Sequence[str]) -> None:
        """Add a relationship."""
        self.add(
            {
                "type": "Relationship",
                "id": f"relationship-{len(self.elements)}",
                "from": source,
                "relationshipType": kind,
                "to": list(targets),
            }
        )

    def license(self, package: str, kind: str, licences: Sequence[str | None]) -> None:
        """Say under which licences a package is: no assertion if one of them is not known."""
        if None in licences:
            self.relate(package, kind, [NO_LICENCE])
            return
        names = sorted({_identifier(licence) for licence in licences if licence})
        expression = " AND ".join(names)
        element = {
            "type": "simplelicensing_LicenseExpression",
            "id": f"licence-{'-and-'.join(names)}",
            "simplelicensing_licenseExpression": expression,
        }
        self.relate(package, kind, [self.add(element)])

    def value(self, root: str) -> dict[str, Any]:
        """The document with all elements."""
        missing = (*TO_COMPLETE, *self.known.missing)
        creation = {
            "type": "CreationInfo",
            "@id": "_:creation",
            "specVersion": "3.0.1",
            "created": _time(self.known.finished),
            "createdBy": [self.agent],
        }
        document = {
            "type": "SpdxDocument",
            "spdxId": f"{self.base}:document",
            "creationInfo": "_:creation",
            "name": self.known.run,
            "comment": "To be completed, since a ledger does not know it: " + "; ".join(missing) + ".",
            "profileConformance": ["core", "software", "simpleLicensing"],
            "rootElement": [root],
            "element": list(self.elements),
        }
        return {"@context": CONTEXT, "@graph": [creation, document, *self.elements.values()]}


def _corpus(known: Facts) -> Element:
    return {
        "type": "dataset_DatasetPackage",
        "id": "corpus",
        "name": known.run,
        "summary": f"An instruction-tuning corpus of {known.rows} rows from {len(known.sources)} sources.",
        "builtTime": _time(known.finished),
        "originatedBy": [f"urn:winnow:{known.run}:winnow"],
        "software_primaryPurpose": "data",
        "software_packageVersion": known.run,
        "dataset_datasetType": ["text"],
        **({} if known.bytes is None else {"dataset_datasetSize": known.bytes}),
        "dataset_dataCollectionProcess": (
            f"Rows of {', '.join(source.name for source in known.sources)} were read by Winnow {known.winnow}."
        ),
        "dataset_dataPreprocessing": [_preprocessing(step) for step in known.steps if step.rows_in is not None],
        "dataset_hasSensitivePersonalInformation": "noAssertion",
        "dataset_anonymizationMethodUsed": list(_anonymization(known)),
    }


def _preprocessing(step: Manifest) -> str:
    dropped = ", ".join(f"{rows} {reason}" for reason, rows in step.reasons.items())
    return (
        f"{step.step} (code {step.code_digest}, key {step.key}): {step.rows_in} rows in, {step.rows_kept} kept"
        f"{f'; dropped: {dropped}' if dropped else ''}"
    )


def _anonymization(known: Facts) -> Iterator[str]:
    for stage in known.settings["stages"]:
        if stage.get("kind") == "mask_pii":
            yield "personal data was masked (stage mask_pii)"
        if stage.get("kind") == "pii":
            yield "rows with personal data were dropped (stage pii)"


def _source(source: SourceFacts) -> Element:
    element: Element = {
        "type": "dataset_DatasetPackage",
        "id": f"source-{source.name}",
        "name": source.title or source.name,
        "summary": f"{source.rows} of its {source.rows_read} rows are in the corpus.",
        "software_primaryPurpose": "data",
        "dataset_datasetType": ["text"],
        "verifiedUsing": [
            {
                "type": "Hash",
                "algorithm": "other",
                "hashValue": file.identity,
                "comment": f"xxh3-128 of {file.name}: of its bytes, or of what its store says of them",
            }
            for file in source.files
        ],
    }
    if source.home is not None and "://" in source.home:
        element["software_homePage"] = source.home
    if source.revision is not None:
        element["software_packageVersion"] = source.revision
    return element


def _model(name: str) -> Element:
    return {
        "type": "ai_AIPackage",
        "id": f"model-{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}",
        "name": name,
        "software_primaryPurpose": "model",
    }


def _identifier(licence: str) -> str:
    """A licence in an expression."""
    return licence if licence in LISTED else f"LicenseRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', licence).strip('-')}"


def _time(iso: str) -> str:
    """A time as SPDX writes it: UTC, whole seconds."""
    return f"{iso[:19]}Z"

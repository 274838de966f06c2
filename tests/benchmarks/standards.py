"""Documents about the corpus of the demo, each read by the tool it is for. `python -m tests.benchmarks standards`

The demo is built, described in every format, and built again from its manifest into another root.
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from flows.build import build
from pipelines.export import DOCUMENTS, EXPORTS
from pipelines.ledger.corpus_manifest import CorpusManifest
from pipelines.ledger.runs import open_run

Row = dict[str, object]


def bench(data: Path | None) -> dict[str, list[Row]]:
    """A row for each document, and a row for the corpus and its manifest."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        begun = time.monotonic()
        answer = build("demo", str(folder / "root"), "local")
        built = time.monotonic() - begun
        run = open_run(answer.root, answer.run)
        rows: list[Row] = []
        seconds = {}
        for form in ("hf", *DOCUMENTS):
            begun = time.monotonic()
            EXPORTS[form](run, str(folder / form))
            seconds[form] = time.monotonic() - begun
        for document, (tool, check) in CHECKS.items():
            path = folder / document
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            rows.append(
                {
                    "document": document,
                    "bytes": sum(file.stat().st_size for file in files),
                    "checked by": f"{tool} {importlib.metadata.version(tool)}",
                    "result": check(path),
                }
            )
        manifest = CorpusManifest(str(folder / "manifest"))
        begun = time.monotonic()
        again = build(manifest.path, str(folder / "again"), "local")
        rebuilt = time.monotonic() - begun
        size = Path(manifest.path).stat().st_size
        assert again.manifest is not None
        corpus: Row = {
            "rows": manifest.head.rows,
            "sequences of all epochs": sum(manifest.head.epochs),
            "bytes of the manifest": size,
            "bytes per row": round(size / manifest.head.rows, 1),
            "export, s": round(seconds["manifest"], 1),
            "build, s": round(built, 1),
            "build of the manifest, s": round(rebuilt, 1),
            "pack files with equal bytes": f"{again.manifest.files} of {len(manifest.head.packs)}",
        }
        return {"Documents": rows, "The manifest": [corpus]}


def _card(path: Path) -> str:
    from huggingface_hub import DatasetCard

    return f"read, {len(DatasetCard.load(path).data.to_dict())} keys"


def _data_set(path: Path) -> str:
    import datasets

    return f"load_dataset: {len(datasets.load_dataset(str(path), split='train')):,} rows"


def _croissant(path: Path) -> str:
    import mlcroissant

    described = mlcroissant.Dataset(str(path))
    issues = described.metadata.ctx.issues
    rows = sum(1 for _ in described.records("records"))
    said = "; ".join(sorted(warning.rpartition("] ")[2] for warning in issues.warnings))
    return f"{len(issues.errors)} errors, {rows:,} records read; warnings: {said or 'none'}"


def _spdx(path: Path) -> str:
    from spdx_python_model import v3_0_1 as spdx

    read = spdx.SHACLObjectSet()
    with path.open() as file:
        spdx.JSONLDDeserializer().read(file, read)
    with path.with_suffix(".again").open("wb") as file:
        spdx.JSONLDSerializer().write(read, file)
    packages = len(list(read.foreach_type(spdx.dataset_DatasetPackage)))
    return f"read and written again, {len(list(read.foreach()))} objects, {packages} of them data set packages"


def _events(path: Path) -> str:
    from tests.flows.test_lineage import check_events, facets_of

    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    check_events(events)
    return f"{len(events)} events and {sum(1 for _ in facets_of(events))} facets made by its classes"


def _summary(path: Path) -> str:
    fields = [field for one in json.loads(path.read_text())["sections"] for field in one["fields"]]
    filled = sum(field["value"] is not None for field in fields)
    return f"no validator exists; {filled} of {len(fields)} fields filled, the rest for the provider"


CHECKS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "hf": ("datasets", _data_set),
    "hf/README.md": ("huggingface_hub", _card),
    "hf/croissant.json": ("mlcroissant", _croissant),
    "spdx/corpus.spdx.json": ("spdx-python-model", _spdx),
    "openlineage/lineage.jsonl": ("openlineage-python", _events),
    "eu-summary/eu-summary.json": ("winnow-corpus", _summary),
}
"""Document -> the package that checks it, and the check."""

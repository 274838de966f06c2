"""Where do the rows come from, and how is the run made again? Licences, inputs, environment and commands."""

from __future__ import annotations

from typing import Any

from pipelines.ledger.runs import RecordedRun, read_recipe
from pipelines.steps.ingest import INGEST

FILES_SHOWN = 40
"""Input files that are listed of a source."""


def licences(sources: list[dict[str, Any]], coverage: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per licence, the one with most rows first: sources, rows kept, and tokens drawn for training. The licence is
    empty for sources that name none."""
    tokens = {line["source"]: line["drawn_tokens"] for line in coverage[1:]}
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        line = found.setdefault(
            source["licence"], {"licence": source["licence"], "sources": [], "rows": 0, "tokens": 0}
        )
        line["sources"].append(source["name"])
        line["rows"] += source["kept"]
        line["tokens"] += tokens.get(source["name"], 0)
    return sorted(found.values(), key=lambda line: -int(line["rows"]))


def inputs(run: RecordedRun) -> list[dict[str, Any]]:
    """Per source: its adapter, how many files were read, and name and digest of the first ones."""
    step = run.step(INGEST.name)
    if step is None:
        return []
    paths = {spec["name"]: spec.get("path") for spec in run.info["settings"]["sources"]}
    return [
        {
            "name": source["name"],
            "adapter": source.get("adapter") or "files of rows",
            "path": _as_text(paths.get(source["name"])),
            "files": len(source["files"]),
            "listed": [(name + suffix, digest) for name, suffix, digest in source["files"][:FILES_SHOWN]],
        }
        for source in step.parameters["sources"]
    ]


def recipe_text(run: RecordedRun) -> str:
    """The recipe as the user wrote it; empty if it is gone."""
    return read_recipe(run) or ""


def _as_text(path: Any) -> str:
    return ", ".join(path) if isinstance(path, list | tuple) else str(path or "")

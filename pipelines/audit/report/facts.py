"""What are the numbers of a run? Rows by step, reason and source, as plain data. No text of a row is read."""

from __future__ import annotations

import json
from typing import Any

from pipelines.audit.quality import quality
from pipelines.audit.reasons import meaning
from pipelines.audit.report.contamination import contamination
from pipelines.audit.report.counts import by_source
from pipelines.audit.report.coverage import coverage
from pipelines.audit.report.thinking import thinking_by_source
from pipelines.audit.report.training import calibration, results
from pipelines.ledger.corpus_manifest import selection
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.sources import SOURCES
from pipelines.steps import ingest
from pipelines.steps.products import RECORDS


def facts(run: RecordedRun) -> dict[str, Any]:
    """What the page shows, as plain data. A run that failed may have no step at all."""
    steps = [step for step in run.steps if step.kept]
    seconds = {step["key"]: step["seconds"] for step in run.info["steps"]}
    rows_in = (steps[0].rows_in if steps else None) or 0
    corpus = run.product("corpus")
    drawn = coverage(run)
    return {
        "run": run.id,
        "recipe": run.info["recipe"],
        "finished": run.info["finished"][:19].replace("T", " ") + " UTC",
        "rows_in": rows_in,
        "rows_kept": (corpus.rows_kept if corpus else None) or 0,
        "funnel": [_bar(step, rows_in, seconds.get(step.key, 0.0)) for step in steps],
        "made": [_made(step, seconds.get(step.key, 0.0)) for step in run.steps if not step.kept],
        "coverage": drawn,
        "epochs": run.info["settings"].get("sampling", {}).get("epochs", 1),
        "failure": _failure(run),
        "tokens": drawn[0]["drawn_tokens"] if drawn else 0,
        "reasons": [reason for step in steps if step.kept == RECORDS for reason in _reasons(step)],
        # Rows of the corpus that training cannot use. They are no rows dropped from it.
        "untrained": [reason for step in steps if step.kept != RECORDS for reason in _reasons(step)],
        "selection": selection(run.info["settings"]),
        "sources": _sources(run, steps),
        "quality": quality(run),
        "thinking": thinking_by_source(run),
        "stripped": any(stage["kind"] == "strip_thinking" for stage in run.info["settings"]["stages"]),
        "contamination": contamination(run),
        "results": results(run),
        "calibration": calibration(run),
        "settings": json.dumps(run.info["settings"], indent=2, ensure_ascii=False),
        "keys": [(step.step, step.key) for step in run.steps],
    }


def empty_sources(run: RecordedRun) -> list[str]:
    """The sources of which the corpus holds no row: most likely a wrong column, or a filter too strict for them."""
    kept = by_source(run.records.shards)
    return [spec["name"] for spec in run.info["settings"]["sources"] if not kept[spec["name"]]]


def _failure(run: RecordedRun) -> str:
    """In which step a run that is not finished ended, and why; empty for one that is."""
    if run.status == "finished":
        return ""
    done = f"{len(run.steps)} of {len(run.info.get('wanted', run.steps))} steps are done"
    where = f"; it ended in step {run.info['step']}" if run.info.get("step") else ""
    error = f" The error was: {run.info['error']}" if run.info.get("error") else ""
    again = "Building the recipe again carries on from there."
    return f"This run did not finish ({run.status}): {done}{where}.{error} {again}"


def _bar(step: Manifest, rows_in: int, seconds: float) -> dict[str, Any]:
    taken, kept, dropped = step.rows_in or 0, step.rows_kept or 0, step.rows_dropped or 0
    return {
        "step": step.step,
        "rows_in": taken,
        "kept": kept,
        "dropped": dropped,
        "seconds": seconds,
        "rate": taken / seconds if seconds > 0.05 else None,
        "kept_share": kept / max(rows_in, 1),
        "dropped_share": dropped / max(rows_in, 1),
    }


def _made(step: Manifest, seconds: float) -> dict[str, Any]:
    counts = {name: value for name, value in step.counts.items() if not name.startswith("coverage/")}
    files = step.all_files
    size = sum(file.bytes for file in files)
    return {"step": step.step, "files": len(files), "bytes": size, "seconds": seconds, "counts": counts}


def _reasons(step: Manifest) -> list[dict[str, Any]]:
    """The reasons of one step, most frequent first."""
    return [
        {
            "step": step.step,
            "name": name,
            "rows": rows,
            "share": rows / max(step.rows_in or 1, 1),
            "meaning": meaning(*name.split("/", 1)).replace("`", ""),
        }
        for name, rows in sorted(step.reasons.items(), key=lambda pair: -pair[1])
    ]


def _sources(run: RecordedRun, steps: list[Manifest]) -> list[dict[str, Any]]:
    """Per source: rows read, rows kept, rows dropped by each step, licence, overlaps, columns with text
    that were not read."""
    if not steps:
        return []
    read, unread = ingest.by_source(steps[0]), ingest.unread_by_source(steps[0])
    records = [step for step in steps if step.kept == RECORDS]
    dropped = {step.step: by_source(step.dropped) for step in steps}
    table = []
    for spec in run.info["settings"]["sources"]:
        name, source = spec["name"], SOURCES.get(spec["adapter"] or "")
        gone = {step: counts[name] for step, counts in dropped.items() if counts[name]}
        table.append(
            {
                "name": name,
                "title": source.title if source else "files of the user's own",
                # What the recipe says of a source is the user's own word on it.
                "licence": spec.get("licence") or (source.licence if source else ""),
                "home": spec.get("home") or (source.home if source else ""),
                "revision": source.revision if source else "",
                "generators": spec.get("generators") or (source.generators if source else None) or (),
                "overlaps": list(source.overlaps) if source else [],
                "unread": list(unread.get(name, ())),
                "rows_in": read[name][0],
                # Conservation: what is not dropped is kept. A step after the corpus drops nothing of it.
                "kept": read[name][0] - sum(dropped[step.step][name] for step in records),
                "dropped": gone,
            }
        )
    return table

"""What do the pages show? The values of each page, read from the root; `flows.ui.app` answers requests with them."""

from __future__ import annotations

import functools
import json
import tempfile
import threading
from collections import Counter
from typing import Any

from pipelines.audit import charts
from pipelines.audit.charts import Series
from pipelines.audit.clusters import Clusters, clusters
from pipelines.audit.diff import RunDiff, diff
from pipelines.audit.rows import RowIndex
from pipelines.audit.runs import RunEntry, runs
from pipelines.audit.why import why
from pipelines.errors import RunError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.lease import Holder
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun, failures, open_run, read_recipe, read_scores, recorded, status_of
from pipelines.sources import SOURCES
from pipelines.steps.ingest import by_source

CLUSTERS, MEMBERS = 20, 3
"""Clusters shown, the largest first, and dropped rows of each."""

CACHED = 16
"""Comparisons, and lists of clusters, that are kept."""


class Views:
    """The values of the pages of one root. Nothing below the root is written; indexes lie in a temporary folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._indexes = tempfile.TemporaryDirectory(prefix="winnow-ui-")
        self._working = threading.Lock()  # one comparison, search by index or drawing at a time: each takes memory
        self._diff = functools.lru_cache(CACHED)(self._compute_diff)
        self._clusters = functools.lru_cache(CACHED)(self._compute_clusters)

    def close(self) -> None:
        """Remove the indexes."""
        self._indexes.cleanup()

    def open(self, name: str) -> RecordedRun:
        """A run that finished, failed or was stopped. Raises: RunError: if there is none, or it goes on."""
        return open_run(self.root, name, failed=True)

    # ---- pages

    def runs(self) -> dict[str, Any]:
        """All runs, the newest first."""
        entries = runs(self.root).runs
        return {"title": "Runs", "runs": entries, "choices": _choices(entries)}

    def run(self, name: str) -> dict[str, Any]:
        """One run: steps, sources, reasons."""
        going = next((info for id, info in failures(self.root) if id == name and status_of(info) == "running"), None)
        if going is not None:
            return {
                "title": name,
                "run": name,
                "running": going,
                "process": str(Holder.model_validate(going["holder"])),
            }
        run = self.open(name)
        seconds = {step["key"]: step["seconds"] for step in run.info["steps"]}
        record_steps = [step for step in run.steps if step.kept]
        reasons = [
            {"step": step.step, "reason": reason, "rows": rows, "share": rows / max(step.rows_in or 1, 1)}
            for step in record_steps
            for reason, rows in step.reasons.items()
        ]
        corpus, packs = run.product("corpus"), run.product("packs")
        return {
            "title": run.id,
            "run": run.id,
            "running": None,
            "status": run.status,
            "info": run.info,
            "rows_in": record_steps[0].rows_in if record_steps else None,
            "rows_kept": corpus.rows_kept if corpus else None,
            "tokens": _drawn_tokens(packs),
            "steps": [(step, seconds.get(step.key)) for step in run.steps],
            "wanted": len(run.info.get("wanted", run.steps)),
            "sources": _sources(run),
            "reasons": sorted(reasons, key=lambda one: -int(one["rows"])),
            "chart": self._chart(record_steps),
            "settings": json.dumps(run.info["settings"], indent=2, ensure_ascii=False),
            "report": storage.exists(storage.join(run.folder, "report.html")),
            "recipe": read_recipe(run) or "",
            "choices": [one for one in _choices(runs(self.root).runs) if one != run.id],
        }

    def row(self, name: str, id: str) -> dict[str, Any]:
        """The fate of one row. Raises: RunError: if the run never had such a row."""
        run = self.open(name)
        with self._working:
            fate = why(run, id, self._index(run))
        return {"title": id, "run": run.id, "fate": fate}

    def clusters(self, name: str) -> dict[str, Any]:
        """The largest clusters of duplicates, with texts side by side."""
        run = self.open(name)
        return {
            "title": f"Duplicates of {run.id}",
            "run": run.id,
            "clusters": self._clusters(run.id, run.info["finished"]),
        }

    def scores(self) -> dict[str, Any]:
        """The scores of the checkpoints that were trained on any run: newest run first."""
        lines = []
        for name, info in recorded(self.root):
            run = RecordedRun(self.root, name, info, ())
            lines += [{**line, "run": name, "finished": info["finished"]} for line in read_scores(run)]
        lines.sort(key=lambda line: (line["benchmark"], line["finished"], line["checkpoint"]), reverse=False)
        return {"title": "Scores", "lines": lines}

    def compare(self, left: str, right: str) -> dict[str, Any]:
        """What changed from one run to another."""
        before, after = self.open(left), self.open(right)
        answer = self._diff(before.id, after.id, (before.info["finished"], after.info["finished"]))
        return {
            "title": "Comparison",
            "left": before.id,
            "right": after.id,
            "diff": answer,
            "chart": self._changes_chart(answer),
        }

    def has_row(self, run: RecordedRun, id: str) -> bool:
        """Whether a run has a row of this id. Only an id that begins with a source of the run is looked up."""
        source, slash, _ = id.partition("/")
        if not slash or source not in {spec["name"] for spec in run.info["settings"]["sources"]}:
            return False
        with self._working:
            index = self._index(run)
            return bool(index.locate(index.first, [id])[0])

    # ---- parts

    def _compute_diff(self, left: str, right: str, when: tuple[str, str]) -> RunDiff:
        """when: the runs were recorded; one that fails again has the same id."""
        with self._working:
            return diff(self.open(left), self.open(right))

    def _compute_clusters(self, name: str, when: str) -> Clusters:
        with self._working:
            return clusters(self.open(name), CLUSTERS, MEMBERS)

    def _index(self, run: RecordedRun) -> RowIndex:
        return RowIndex(run, Run(self._indexes.name, LocalEngine(1)))

    def _changes_chart(self, answer: RunDiff) -> charts.Chart | None:
        kinds = {
            "newly_kept": ("newly kept", "kept"),
            "newly_dropped": ("newly dropped", "gone"),
            "changed": ("changed", "c1"),
        }
        sources = list(dict.fromkeys(one.source for one in answer.changes if one.change in kinds))[:20]
        if not sources:
            return None
        rows: Counter[tuple[str, str]] = Counter()
        for one in answer.changes:
            rows[one.source, one.change] += one.rows
        series = [
            Series(name, colour, [rows[source, kind] for source in sources]) for kind, (name, colour) in kinds.items()
        ]
        used = [one for one in series if any(one.values)]
        text = f"Rows of {len(sources)} sources changed."
        with self._working:
            return charts.bars("Rows that changed, by source", text, sources, used, "rows")

    def _chart(self, steps: list[Manifest]) -> charts.Chart | None:
        if not steps:
            return None
        kept, dropped = ([getattr(step, name) or 0 for step in steps] for name in ("rows_kept", "rows_dropped"))
        parts = [Series("kept", "kept", kept), Series("dropped by this step", "gone", dropped)]
        with self._working:
            text = f"{kept[-1]:,} of {steps[0].rows_in or 0:,} rows are left after {len(steps)} steps."
            return charts.bars("Rows by step", text, [step.step for step in steps], parts, "rows")


def _choices(entries: tuple[RunEntry, ...]) -> list[str]:
    """The runs that pages can be asked about: the newest first, but those that have not finished last."""
    asked = [entry for entry in entries if entry.status not in ("running", "unknown")]
    return [entry.run for entry in sorted(asked, key=lambda entry: entry.status != "finished")]


def _drawn_tokens(packs: Manifest | None) -> int | None:
    if packs is None:
        return None
    return sum(n for name, n in packs.counts.items() if name.startswith("coverage/") and name.endswith("/drawn_tokens"))


def _sources(run: RecordedRun) -> list[dict[str, Any]]:
    """Per source what manifests tell: licence, rows read, rows of the pool that epochs draw from, and tokens drawn."""
    first = next((step for step in run.steps if step.kept), None)
    if first is None:
        return []
    packs = run.product("packs")
    counts = packs.counts if packs else {}
    read, lines = by_source(first), []
    for spec in run.info["settings"]["sources"]:
        known = SOURCES.get(spec["adapter"] or "")
        own = {name: counts.get(f"coverage/{spec['name']}/{name}") for name in ("rows", "tokens", "drawn_tokens")}
        lines.append(
            {
                "name": spec["name"],
                "title": known.title if known else "files of the user's own",
                "licence": known.licence if known else "",
                "read": read.get(spec["name"], (0, 0))[0],
                **own,
            }
        )
    return lines


def require(value: str, name: str) -> str:
    """A value that a page needs. Raises: RunError: if it is empty."""
    if not value.strip():
        raise RunError(f"{name}: nothing was given")
    return value.strip()

"""Where did every row of a run go? One self-contained HTML page, with examples to check.

Everything on the page is read from the run's files, so a report can be written again at any time.
"""

from __future__ import annotations

import base64
import difflib
import importlib.resources
import json
import re
from collections import Counter
from typing import Any

import jinja2
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.rules import CLASSES, RULES
from pipelines.audit.calibration import KEPT_SHARES, Calibration, threshold_words
from pipelines.audit.calibration_picture import panel_rows, picture
from pipelines.audit.quality import quality
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import REPORT, RecordedRun, read_calibration, read_scores
from pipelines.sources import SOURCES
from pipelines.steps.contamination_report import semantic_quality
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.ingest import by_source, unread_by_source
from pipelines.steps.pack import PACK
from pipelines.steps.products import CLEAN_IDS, HITS, THINKING
from pipelines.steps.refine import REFINE
from pipelines.steps.training_overlap import TRAINING_OVERLAP, read_trained_items

EXAMPLES = 3
"""Dropped rows shown for each reason, and matches shown for each benchmark."""

EXCERPT = 400
"""Characters shown of a text."""

PANEL_HEIGHT = 270
"""Pixels of a row of panels in a picture of a calibration."""

SUSPECT_ROWS, SUSPECT_SHARE = 3, 0.01
"""An unknown mark is shown if it begins this many responses of a source, and this share of them."""


def write_report(run: RecordedRun) -> str:
    """Write `report.html` into the run's folder; returns its path."""
    path = storage.join(run.folder, REPORT)
    storage.write_bytes(path, render(facts(run)).encode())
    return path


def facts(run: RecordedRun) -> dict[str, Any]:
    """What the page shows, as plain data. A run that failed may have no step at all."""
    steps = [step for step in run.steps if step.kept]
    seconds = {step["key"]: step["seconds"] for step in run.info["steps"]}
    rows_in = (steps[0].rows_in if steps else None) or 0
    corpus = run.product("corpus")
    coverage = _coverage(run)
    return {
        "run": run.id,
        "recipe": run.info["recipe"],
        "finished": run.info["finished"][:19].replace("T", " ") + " UTC",
        "rows_in": rows_in,
        "status": run.status,
        "error": run.info.get("error"),
        "failed_step": run.info.get("step"),
        "done": f"{len(run.steps)} of {len(run.info.get('wanted', run.steps))}",
        "rows_kept": (corpus.rows_kept if corpus else None) or 0,
        "funnel": [_bar(step, rows_in, seconds[step.key]) for step in steps],
        "made": [_made(step, seconds[step.key]) for step in run.steps if not step.kept],
        "coverage": coverage,
        "tokens": coverage[0]["drawn_tokens"] if coverage else 0,
        "reasons": [reason for step in steps for reason in _reasons(step)],
        "sources": _sources(run, steps),
        "quality": quality(run),
        "thinking": thinking_by_source(run),
        "stripped": any(stage["kind"] == "strip_thinking" for stage in run.info["settings"]["stages"]),
        "contamination": _contamination(run),
        "results": _results(run),
        "calibration": _calibration(run),
        "settings": json.dumps(run.info["settings"], indent=2, ensure_ascii=False),
        "keys": [(step.step, step.key) for step in run.steps],
    }


def render(values: dict[str, Any]) -> str:
    """The page."""
    text = importlib.resources.files("pipelines.audit").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["size"] = _size
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %" if share >= 0.001 or share == 0 else "< 0.1 %"
    return environment.from_string(text).render(**values)


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


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


def _coverage(run: RecordedRun) -> list[dict[str, Any]]:
    """Per source, and for all together (first): the rows and tokens there are, and what the epochs draw of them."""
    step = run.step(PACK.name)
    sources: dict[str, dict[str, Any]] = {}
    total: Counter[str] = Counter()
    for name, value in step.counts.items() if step else ():
        if name.startswith("coverage/"):
            source, what = name.removeprefix("coverage/").rsplit("/", 1)
            sources.setdefault(source, {"source": source})[what] = value
            total[what] += value
    if not sources:
        return []
    return [{"source": "all sources", **total}, *sorted(sources.values(), key=lambda line: -int(line["drawn_tokens"]))]


def _reasons(step: Manifest) -> list[dict[str, Any]]:
    """The reasons of one step, most frequent first, each with the first rows that it dropped."""
    wanted = dict(sorted(step.counts.items(), key=lambda pair: -pair[1]))
    examples: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for shard in step.dropped:
        if all(len(found) >= EXAMPLES for found in examples.values()):
            break
        table = storage.read_parquet(shard.path, ["id", "instruction", "response", "stage", "reason", "evidence"])
        names = pc.binary_join_element_wise(table["stage"], table["reason"], "/")
        for name in pc.unique(names).to_pylist():
            if name in examples and len(examples[name]) < EXAMPLES:
                examples[name] += [
                    _example(row)
                    for row in table.filter(pc.equal(names, name)).slice(0, EXAMPLES - len(examples[name])).to_pylist()
                ]
    return [
        {
            "step": step.step,
            "name": name,
            "rows": rows,
            "share": rows / max(step.rows_in or 1, 1),
            "examples": examples[name],
        }
        for name, rows in wanted.items()
    ]


def _example(row: dict[str, Any]) -> dict[str, Any]:
    evidence = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in json.loads(row["evidence"] or "{}").items()
    )
    return {
        "id": row["id"],
        "instruction": _excerpt(row["instruction"]),
        "response": _excerpt(row["response"]),
        "evidence": _excerpt(evidence),
    }


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT] + " …"


def _sources(run: RecordedRun, steps: list[Manifest]) -> list[dict[str, Any]]:
    """Per source: rows read, rows kept, rows dropped by each step, licence, overlaps, columns with text
    that were not read."""
    if not steps:
        return []
    read, unread = by_source(steps[0]), unread_by_source(steps[0])
    kept = _by_source(run.records.shards)
    dropped = {step.step: _by_source(step.dropped) for step in steps}
    table = []
    for spec in run.info["settings"]["sources"]:
        source = SOURCES.get(spec["adapter"] or "")
        gone = {step: counts[spec["name"]] for step, counts in dropped.items() if counts[spec["name"]]}
        table.append(
            {
                "name": spec["name"],
                "title": source.title if source else "files of the user's own",
                "licence": source.licence if source else "",
                "overlaps": list(source.overlaps) if source else [],
                "unread": list(unread.get(spec["name"], ())),
                "rows_in": read[spec["name"]][0],
                "kept": kept[spec["name"]],
                "dropped": gone,
            }
        )
    return table


def empty_sources(run: RecordedRun) -> list[str]:
    """The sources of which the corpus holds no row: most likely a wrong column, or a filter too strict for them."""
    kept = _by_source(run.records.shards)
    return [spec["name"] for spec in run.info["settings"]["sources"] if not kept[spec["name"]]]


def _by_source(shards: tuple[storage.TableRef, ...]) -> Counter[str]:
    total: Counter[str] = Counter()
    for shard in shards:
        values = pc.value_counts(storage.read_parquet(shard.path, ["source"])["source"])
        if isinstance(values, pa.StructArray):
            total.update(dict(zip(values.field("values").to_pylist(), values.field("counts").to_pylist(), strict=True)))
    return total


def thinking_by_source(run: RecordedRun) -> dict[str, list[dict[str, Any]]]:
    """The findings about thinking by source: lists of rows by finding, with shares of the rows that `refine` kept."""
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("removed", "left", "suspected", "bare_answer", "retagged")
    }
    step = run.step(REFINE.name)
    files = step.files(THINKING) if step else ()
    if step is None or not files:
        return found
    table = pa.concat_tables([storage.map_arrow(file.path) for file in files])
    keys = ["finding", "source", "name"]
    sums = [name for name in table.column_names if name not in keys]
    total = table.group_by(keys).aggregate([(name, "sum") for name in sums]).rename_columns([*keys, *sums])
    kept = _by_source(step.shards)
    order = [("source", "ascending"), ("blocks", "descending"), ("rows", "descending"), ("name", "ascending")]
    for row in total.sort_by(order).to_pylist():
        row["share"] = row["rows"] / max(kept[row["source"]], 1)
        found[row.pop("finding")].append(row)
    found["suspected"] = [
        row for row in found["suspected"] if row["rows"] >= SUSPECT_ROWS and row["share"] >= SUSPECT_SHARE
    ]
    return found


def _contamination(run: RecordedRun) -> dict[str, Any] | None:
    """Per benchmark: the items that the rows checked and the rows drawn hold, what each published rule says of the same
    hits, which sources they came from, and the worst matches side by side."""
    step = run.step(CONTAMINATION.name)
    if step is None:
        return None
    drawn = run.step(TRAINING_OVERLAP.name)
    worst = _worst_matches([file.path for file in step.files(HITS)])
    benchmarks = []
    for file in step.files(CLEAN_IDS):
        value = storage.read_json(file.path)
        name, items = value["benchmark"], value["items"]
        trained = read_trained_items(drawn, name) if drawn else None
        shares = {length: list(share_of.values()) for length, share_of in value["overlap"].items()}
        template_only = [kinds for kinds in value["sources"].values() if set(kinds) == {"template"}]
        benchmarks.append(
            {
                "benchmark": name,
                "items": items,
                "contaminated": len(value["contaminated"]),
                "remaining": len(value["remaining"]),
                "drawn": len(trained["found"]) if trained else None,
                "clean": {n: items - sum(share >= 0.2 for share in values) for n, values in shares.items()},
                "dirty": {n: sum(share >= 0.8 for share in values) for n, values in shares.items()},
                "rules": value["rules"],
                "sources": {one: kinds for one, kinds in value["sources"].items() if set(kinds) != {"template"}},
                "template_only_sources": len(template_only),
                "template_only_rows": sum(kinds["template"] for kinds in template_only),
                "worst": [_side_by_side(hit) for hit in worst.get(name, [])],
            }
        )
    settings = run.info["settings"]["contamination"]
    classes = [
        kind
        for kind in CLASSES
        if kind == "template" or any(kind in n for b in benchmarks for n in b["sources"].values())
    ]
    return {
        "rule": settings["rule"],
        "semantic": semantic_quality(settings),
        "drop": settings["drop"],
        "rules": {name: f"{rule.description} ({rule.source})" for name, rule in RULES.items()},
        "classes": classes,
        "benchmarks": benchmarks,
    }


def _worst_matches(paths: list[str]) -> dict[str, list[dict[str, Any]]]:
    """By benchmark the hits that say most, by class, then score, then length; one for each item. A shard at a time."""
    worst: dict[str, list[dict[str, Any]]] = {}
    rank = {kind: place for place, kind in enumerate(CLASSES)}
    for path in paths:
        hits = pl.DataFrame(storage.read_parquet(path)).with_columns(rank=pl.col("class").replace_strict(rank))
        first = hits.sort(
            ["rank", "score", "longest", "row"], descending=[False, True, True, False], maintain_order=True
        )
        for hit in first.unique(["benchmark", "item"], keep="first", maintain_order=True).iter_rows(named=True):
            found = worst.setdefault(hit["benchmark"], [])
            if sum(one["from"] == path for one in found) < EXAMPLES:
                found.append({**hit, "from": path})
    for name, found in worst.items():
        found.sort(key=lambda hit: (hit["rank"], -hit["score"], -hit["longest"], hit["row"]))
        items: dict[str, dict[str, Any]] = {}
        for hit in found:
            items.setdefault(hit["item"], hit)
        worst[name] = list(items.values())[:EXAMPLES]
    return worst


def _side_by_side(hit: dict[str, Any]) -> dict[str, Any]:
    """A hit with the words that the item and the span share marked: both texts as (text, whether shared)."""
    item, span = (re.findall(r"\s+|\w+|[^\w\s]", hit[name]) for name in ("asked", "span"))
    shared: list[tuple[str, bool]] = []
    marked: list[tuple[str, bool]] = []
    same = difflib.SequenceMatcher(None, [w.casefold() for w in item], [w.casefold() for w in span], autojunk=False)
    for what, i, j, k, m in same.get_opcodes():
        shared.append(("".join(item[i:j]), what == "equal"))
        marked.append(("".join(span[k:m]), what == "equal"))
    return {**hit, "item_words": shared, "span_words": marked}


def _results(run: RecordedRun) -> list[dict[str, Any]]:
    """The scores of checkpoints that were trained on this run. Scores that were written before a key existed have its
    former name, or null."""
    return [
        {
            **line,
            "not_found": line.get("not_found", line.get("clean")),
            "found": line.get("found", line.get("contaminated")),
            "difference": line.get("difference"),
            "how": line.get("how", ""),
            "others": {k: v for k, v in line.get("scorers", {}).items() if k != line.get("scorer")},
            "overlap": [{"power": None, "verdict": None, **test} for test in line.get("overlap") or ()],
        }
        for line in read_scores(run)
    ]


def _calibration(run: RecordedRun) -> list[dict[str, Any]]:
    """How the scores of the run agree with people's ratings, with a picture of each as a data address."""
    lines = []
    for line in read_calibration(run):
        names = Calibration.model_fields
        one = Calibration.model_validate({name: value for name, value in line.items() if name in names})
        png = base64.b64encode(picture(one)).decode() if one.curves else ""
        words = {
            cut: ("" if cut.subject == "all" else f"within {cut.subject}, ") + threshold_words(cut, one)
            for cut in one.thresholds
        }
        lines.append(
            {
                "line": line,
                "one": one,
                "picture": png,
                "height": PANEL_HEIGHT * panel_rows(len(one.curves)),
                "cuts": [text for cut, text in words.items() if cut.kept == KEPT_SHARES[0]],
                "further": [text for cut, text in words.items() if cut.kept != KEPT_SHARES[0]],
            }
        )
    return lines

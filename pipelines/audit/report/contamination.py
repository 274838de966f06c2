"""Which test questions of benchmarks are in the rows? By benchmark, rule and source, and the worst matches."""

from __future__ import annotations

import difflib
import re
from typing import Any

import polars as pl

from filters.contamination.rules import CLASSES, RULES
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.contamination_report import semantic_quality
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.products import CLEAN_IDS, HITS
from pipelines.steps.training_overlap import TRAINING_OVERLAP, read_trained_items

EXAMPLES = 3
"""Matches shown for each benchmark."""


def contamination(run: RecordedRun) -> dict[str, Any] | None:
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

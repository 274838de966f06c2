"""What does the contamination step leave beside the records? Two products that evaluation, reports and scans read.

    hits/part-00000.parquet      every hit of the shard, those of rows that stay too (columns: REPORT)
    clean_ids/<benchmark>.json   {benchmark, rule, items, contaminated: [ids], clean: [ids], remaining: [ids],
                                  paraphrased: [ids], overlap: {"13": {id: share}, "20": {id: share}},
                                  rules: {rule: {items, rows}}, sources: {source: {class: rows}}}

An item is `contaminated` if the rule finds it in a row that the step was given, also in one that it drops, and `clean`
if not. (What training reads is measured after sampling, see `pipelines.steps.training_overlap`.) `remaining` are those
that rows it kept still hold: none, unless the recipe drops less than `test_leak`. `paraphrased` are those that rows say
in other words, null where that was not looked for; they do not count as contaminated. `overlap` is HRM-Text's measure,
the share of an item's tokens inside 13-grams and 20-grams of the corpus (`filters.contamination.coverage`), where it is
not 0. `rules` counts the items and rows that each published rule flags; items that only all rows together flag have no
row.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from filters.contamination.coverage import Coverage
from filters.contamination.index import EXCERPT_CHARS, PASSAGE, BenchmarkIndex
from filters.contamination.paraphrase import PARAPHRASE, measured
from filters.contamination.rules import CLASSES, RULES, corpus_flags
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.storage import FileRef
from pipelines.recipe import TEXT_FIELDS, Contamination
from pipelines.steps.products import CLEAN_IDS

OVERLAP_LENGTHS = (13, 20)
"""Tokens of the n-grams of HRM-Text's study, which `overlap` is about."""

CONTEXT_CHARS = 80
"""Characters before and after the span that a hit quotes."""

REPORT = pa.schema(
    [
        pa.field("row", pa.string(), False),
        pa.field("source", pa.string(), False),
        pa.field("benchmark", pa.string(), False),
        pa.field("item", pa.string(), False),
        pa.field("split", pa.string(), False),
        pa.field("class", pa.string(), False),
        pa.field("score", pa.float32(), False),
        pa.field("rules", pa.list_(pa.field("element", pa.string(), False)), False),
        pa.field("longest", pa.int32(), False),
        pa.field("field", pa.string(), False),
        pa.field("start", pa.int32(), False),
        pa.field("end", pa.int32(), False),
        pa.field("span", pa.string(), False),
        pa.field("before", pa.string(), False),
        pa.field("after", pa.string(), False),
        pa.field("asked", pa.string(), False),
        pa.field("dropped", pa.bool_(), False),
    ]
)
"""A hit. score: the share of the item's weight in the row, 0 to 1. rules: the rules that flag it. longest: tokens of
the longest shared run. start, end: characters of the span in `field`; span: its text, shortened; before, after: the
text around it. asked: the item's question, or its passage if that was found, shortened. dropped: whether the step
removed the row."""


def describe(index: BenchmarkIndex, records: pa.Table, hits: pa.Table) -> pa.Table:
    """Hits with names, ids and spans: the columns of REPORT without `dropped`."""
    hits = hits.combine_chunks()
    row, item = hits["row"].combine_chunks(), hits["item"].combine_chunks()
    starts, ends, spans, before, after = [], [], [], [], []
    # A loop over hits, not over records. Offsets in bytes become offsets in characters.
    texts = records.select(list(TEXT_FIELDS)).take(row).to_pylist() if len(row) else []
    for text, field, start, end in zip(
        texts, hits["field"].to_pylist(), hits["start"].to_pylist(), hits["end"].to_pylist(), strict=True
    ):
        data = text[TEXT_FIELDS[field]].encode()
        head, span, tail = data[:start].decode(), data[start:end].decode(), data[end:].decode()
        starts.append(len(head))
        ends.append(len(head) + len(span))
        spans.append(span if len(span) <= EXCERPT_CHARS else span[:EXCERPT_CHARS] + " …")
        before.append(head if len(head) <= CONTEXT_CHARS else "… " + head[-CONTEXT_CHARS:])
        after.append(tail if len(tail) <= CONTEXT_CHARS else tail[:CONTEXT_CHARS] + " …")
    numbers = item.to_numpy()
    parts = np.where(hits["kind"].to_numpy() == PASSAGE, index.arrays.passage[numbers], index.arrays.question[numbers])
    columns = [
        records["id"].take(row), records["source"].take(row),
        index.names.take(pa.array(index.arrays.bench[numbers])),
        index.ids.take(item), index.splits.take(item), hits["class"], hits["score"], hits["rules"], hits["longest"],
        pa.array(TEXT_FIELDS, pa.string()).take(hits["field"].combine_chunks()),
        pa.array(starts, pa.int32()), pa.array(ends, pa.int32()), pa.array(spans, pa.string()),
        pa.array(before, pa.string()), pa.array(after, pa.string()), index.asked.take(pa.array(parts)),
    ]  # fmt: skip
    return pa.table(columns, schema=pa.schema(list(REPORT)[:-1]))


class _Tally:
    """Sums of the hits of all shards, by benchmark. Shards are added one at a time, so hits need not fit in memory."""

    def __init__(self) -> None:
        self.leaks: defaultdict[str, set[str]] = defaultdict(set)
        self.remaining: defaultdict[str, set[str]] = defaultdict(set)
        self.near: defaultdict[str, set[str]] = defaultdict(set)
        self.items: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self.rows: Counter[tuple[str, str]] = Counter()
        self.sources: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def add(self, hits: pa.Table) -> None:
        """Count the hits of one shard."""
        frame = pl.DataFrame(hits)
        leaks, paraphrases = (frame.filter(pl.col("class") == kind) for kind in ("test_leak", PARAPHRASE))
        kept = leaks.filter(~pl.col("dropped"))
        for items_of, rows in ((self.leaks, leaks), (self.remaining, kept), (self.near, paraphrases)):
            for name, items in rows.group_by("benchmark").agg(pl.col("item").unique()).iter_rows():
                items_of[name].update(items)
        flagged = frame.explode("rules").drop_nulls("rules").group_by("benchmark", "rules")
        for name, rule, items, rows in flagged.agg(pl.col("item").unique(), pl.col("row").n_unique()).iter_rows():
            self.items[name, rule].update(items)
            self.rows[name, rule] += rows
        by_source = frame.group_by("benchmark", "source", "class").agg(pl.col("row").n_unique())
        for name, source, kind, rows in by_source.iter_rows():
            self.sources[name][source][kind] += rows


def clean_ids(
    folder: str, index: BenchmarkIndex, hits: Sequence[FileRef], grams: pa.Table, settings: Contamination
) -> Part:
    """Write `clean_ids/<benchmark>.json` below a step's folder.

    A resumed step writes these few small files again, so they need no receipts.
    """
    tally = _Tally()
    for file in hits:
        tally.add(storage.read_parquet(file.path, ["row", "source", "benchmark", "item", "class", "rules", "dropped"]))
    evaluated = ~index.arrays.trained.astype(np.bool_)
    coverage = Coverage(index, grams)
    shares = {length: coverage.shares(length) for length in OVERLAP_LENGTHS}
    union = corpus_flags(coverage)
    files = []
    for number, name in enumerate(index.names.to_pylist()):
        own = (index.arrays.bench == number) & evaluated
        ids = index.ids.filter(pa.array(own)).to_pylist()
        by_all_rows = {rule: set(index.ids.filter(pa.array(own & items)).to_pylist()) for rule, items in union.items()}
        # No row was dropped for an item that only all rows together hold.
        single, dropped = tally.leaks[name], tally.leaks[name] - tally.remaining[name]
        leaks = single | by_all_rows.get(settings.rule, set())
        value = {
            "benchmark": name,
            "rule": settings.rule,
            "items": len(ids),
            "contaminated": [item for item in ids if item in leaks],
            "clean": [item for item in ids if item not in leaks],
            "remaining": [item for item in ids if item in leaks - dropped],
            "paraphrased": [item for item in ids if item in tally.near[name]] if settings.semantic else None,
            "overlap": {
                str(length): {
                    item: share for item, share in zip(ids, share_of_item[own].tolist(), strict=True) if share
                }
                for length, share_of_item in shares.items()
            },
            "rules": {
                rule: {
                    "items": len(set(ids) & (tally.items[name, rule] | by_all_rows.get(rule, set()))),
                    "rows": tally.rows[name, rule],
                }
                for rule in RULES
            },
            "sources": {
                source: {kind: kinds[kind] for kind in CLASSES if kinds[kind]}
                for source, kinds in sorted(tally.sources[name].items())
            },
        }
        files.append(storage.write_json(storage.join(folder, "clean_ids", f"{name}.json"), value))
    return Part(rows_in=0, files={CLEAN_IDS: tuple(files)})


def read_clean_ids(contamination: Manifest, benchmark: str) -> dict[str, Any] | None:
    """What the step's `clean_ids` says of a benchmark; None where the corpus was not checked against it."""
    values = (storage.read_json(file.path) for file in contamination.files(CLEAN_IDS))
    return next((value for value in values if value["benchmark"] == benchmark), None)


def semantic_quality(settings: Mapping[str, Any]) -> str | None:
    """What the search by sentence vectors was measured to find at the similarity of a contamination section.

    None if the section does not have it.
    """
    if not settings.get("semantic"):
        return None
    return f"similarity {settings['similarity']}: {measured(settings['similarity']) or 'not measured'}"

"""Contamination: which evaluation items the corpus holds, and the corpus without them.

The index of all benchmarks is a step of its own, mapped by every worker. Then two passes: hits by shard; then, with the
counts of common 13-grams known, classes and removal by shard. The manifest's `side` files are the products:

    hits/part-00000.parquet      every hit of the shard, those of rows that stay too (columns: REPORT)
    clean_ids/<benchmark>.json   {benchmark, rule, items, contaminated: [ids], clean: [ids], remaining: [ids],
                                  paraphrased: [ids], overlap: {"13": {id: share}, "20": {id: share}},
                                  rules: {rule: {items, rows}}, sources: {source: {class: rows}}}

An item is contaminated when the rule finds it in a row that this step was given; `remaining` are those that rows it
kept still hold (none, unless the recipe drops less than `test_leak`). `paraphrased` are those that rows say in other
words, null where that was not looked for; they are not counted as contaminated. `overlap` is HRM-Text's measure, the
share of an item's tokens inside 13-grams and 20-grams of the corpus (`filters.contamination.coverage`), of the items that have any.
`rules` says how many items and rows each published rule flags; items flagged by all rows together count without a row
of their own.
"""

from __future__ import annotations

import functools
import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.coverage import covered_shares
from filters.contamination.grams import sum_gram_counts
from filters.contamination.index import (
    EXCERPT_CHARS,
    PASSAGE,
    BenchmarkIndex,
    build_index,
    index_from_table,
    index_to_table,
)
from filters.contamination.paraphrase import PARAPHRASE, Embed, add_paraphrases, nearest_items
from filters.contamination.rules import CLASSES, COMMON_ROWS, RULES, classify_hits, corpus_flags
from filters.contamination.scan import scan_texts
from filters.stage import DROP_FIELDS, Outcome
from pipelines.benchmarks import BENCHMARKS, Benchmark
from pipelines.errors import InputError, RecipeError, nearest
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, Step
from pipelines.ledger.run import Desk, Run, Target, commit
from pipelines.ledger.storage import ShardRef
from pipelines.recipe import BenchmarkSpec, Contamination

VERSION = 7
"""Of the scan, the classes and the rules."""

INDEX_VERSION = 2
"""Of the index."""

BENCHMARK_SEED = 0
"""Computed benchmarks have the same items whatever the seed of the corpus: a score is compared across runs."""

MODEL = "all-MiniLM-L6-v2"
"""Whose vectors `semantic` compares: part of their step's key."""

AROUND = 80
"""Characters before and after the span that hits quote."""

FIELDS = ("instruction", "response")

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
"""A hit. score: the share of the item's weight found, 0 to 1. rules: the published rules that flag it, ours included.
longest: tokens of the longest shared run. start, end: characters of the span in `field`; span: its text, cut short;
before, after: the text around it. asked: the item's question, or the passage where that was found, cut short.
dropped: whether this step removed the row."""

DROP_STAGE = "contamination"


def drop_contaminated(run: Run, records: Manifest, settings: Contamination, embed: Embed | None = None) -> Manifest:
    """Drop the records that hold benchmark items, as `settings.rule` reads and `settings.drop` says.

    Dropped rows: stage `contamination`, reason the class, evidence JSON {benchmark, item, span, score, rule}. embed:
    where vectors come from, for `settings.semantic`; a module-level function, since workers call it. The vectors of the
    items are a step of their own: they are dear, and the same for every corpus.

    Errors: RecipeError for an unknown rule, class or benchmark; InputError for benchmark files that cannot be read.
    """
    check_contamination(settings)
    parameters: dict[str, Any] = {
        "rule": settings.rule,
        "drop": sorted(settings.drop),
        "benchmarks": [_identity(spec) for spec in settings.benchmarks],
    }
    vectors = None
    if settings.semantic:
        assert embed is not None, "whoever allows `semantic` brings the vectors"
        parameters |= {"similarity": settings.similarity}
        vectors = _item_vectors(run, settings, embed)
    index = _benchmark_index(run, settings)
    parents = (records.key, index.key, *([vectors.key] if vectors else []))
    step = Step("contamination", VERSION, parameters, parents)
    near = _Near(embed, vectors.shards, settings.similarity) if embed and vectors else None
    return run.do(step, lambda desk: _parts(desk, index.shards[0].path, records.shards, settings, near), of=records)


def benchmark_items(spec: BenchmarkSpec) -> pa.Table:
    """The ITEM table of a recipe's benchmark, for the check and for evaluation alike.

    Errors: RecipeError where the recipe names no known benchmark, or names it wrongly; InputError for its files.
    """
    benchmark = _benchmark(spec)
    if benchmark.generate is not None:
        assert spec.rows is not None
        return benchmark.generate(spec.rows, BENCHMARK_SEED)
    assert benchmark.read is not None
    items = benchmark.read([path for pattern in spec.paths for path in storage.expand(pattern)])
    items = items if spec.rows is None else items.slice(0, spec.rows)
    if not items.num_rows:
        raise InputError(f"benchmark {spec.name}: no items in {', '.join(spec.paths)}")
    return items


def _benchmark(spec: BenchmarkSpec) -> Benchmark:
    name = spec.adapter or spec.name
    where = f"contamination.benchmarks: {spec.name}"
    if name not in BENCHMARKS:
        raise RecipeError(
            f"{where}: unknown benchmark {name!r}; {nearest(name, BENCHMARKS)} (files of your own: `adapter: items`)"
        )
    benchmark = BENCHMARKS[name]
    if benchmark.generate is not None and spec.paths:
        raise RecipeError(f"{where}: {name!r} is computed; leave out `path`")
    if benchmark.generate is not None and spec.rows is None:
        raise RecipeError(f"{where}: {name!r} is computed; say how many items: `rows: 300`")
    if benchmark.read is not None and not spec.paths:
        raise RecipeError(f"{where}: {name!r} reads files; give their `path`")
    return benchmark


def check_contamination(settings: Contamination) -> None:
    """See to the settings before any work. Errors: RecipeError for what no file is needed to see."""
    if settings.rule not in RULES:
        raise RecipeError(f"contamination.rule: unknown rule {settings.rule!r}; {nearest(settings.rule, RULES)}")
    for name in settings.drop:
        if name not in CLASSES:
            raise RecipeError(f"contamination.drop: unknown class {name!r}; {nearest(name, CLASSES)}")
    names = [spec.name for spec in settings.benchmarks]
    for spec in settings.benchmarks:
        if names.count(spec.name) > 1:
            raise RecipeError(
                f"contamination.benchmarks: two are called {spec.name!r}; give each its own name, and its `adapter`"
            )
        _benchmark(spec)
    if not names:
        raise RecipeError("contamination.benchmarks: name at least one, or write `contamination: false`")


def _identity(spec: BenchmarkSpec) -> dict[str, Any]:
    """What the items of a benchmark depend on. File names count, since they are part of the ids; folders do not."""
    benchmark = _benchmark(spec)
    files = [path for pattern in spec.paths for path in storage.expand(pattern)]
    return {
        "name": spec.name,
        "adapter": benchmark.name,
        "version": benchmark.version,
        "rows": spec.rows,
        "files": [[posixpath.basename(path), storage.digest(path)] for path in files],
    }


class _Near(NamedTuple):
    """How rows near an item are found: vectors of texts, vectors of the items by benchmark, the least cosine."""

    embed: Embed
    vectors: tuple[ShardRef, ...]
    similarity: float


def _benchmark_index(run: Run, settings: Contamination) -> Manifest:
    """A step of one file, so that any corpus checked against the same items under this root finds it made."""
    step = Step("benchmark-index", INDEX_VERSION, {"benchmarks": [_identity(spec) for spec in settings.benchmarks]})
    return run.do(step, lambda desk: desk.map(_build_index, [settings.benchmarks]))


def _item_vectors(run: Run, settings: Contamination, embed: Embed) -> Manifest:
    """A step with one file a benchmark: (item, vector) of each question, and of each question with its answer."""
    step = Step("item-vectors", 1, {"model": MODEL, "benchmarks": [_identity(spec) for spec in settings.benchmarks]})
    return run.do(step, lambda desk: desk.map(functools.partial(_embed_items, embed), settings.benchmarks))


def _embed_items(embed: Embed, spec: BenchmarkSpec, target: Target) -> Part:
    items = benchmark_items(spec)
    asked = items["question"].combine_chunks()
    answers = pc.replace_substring_regex(items["answer"], r"^([^|]+)\|.*$", r"\1").combine_chunks()
    answered = pc.not_equal(answers, "")
    whole = pc.binary_join_element_wise(asked, answers, "\n").filter(answered)
    numbers = pa.array(np.arange(items.num_rows, dtype=np.int32))
    vectors = embed([*asked.to_pylist(), *whole.to_pylist()])
    table = pa.table(
        {
            "item": pa.concat_arrays([numbers, numbers.filter(answered)]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
        }
    )
    return Part(shards=(storage.write_arrow(target.path(suffix=".arrow"), table),))


def _near_rows(path: str, near: _Near, shard: ShardRef, target: Target) -> Part:
    """The rows whose instruction (or response, where that is all there is) is near an item of an evaluation split."""
    index = _index(path)
    records = storage.read_parquet(shard.path, list(FIELDS))
    asked, answered = (_column(records, name) for name in FIELDS)
    texts = pc.if_else(pc.equal(asked, ""), answered, asked).dictionary_encode()
    begins = np.searchsorted(index.arrays.bench, np.arange(len(index.names)))
    items, owners = [], []
    for begin, ref in zip(begins, near.vectors, strict=True):
        table = storage.map_arrow(ref.path)
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        items.append(flat.reshape(table.num_rows, -1) if table.num_rows else np.empty((0, 1), np.float32))
        owners.append(table["item"].to_numpy() + begin)
    owner = np.concatenate(owners).astype(np.int32)
    asked_of = index.arrays.trained[owner] == 0
    vectors, owner = np.concatenate(items)[asked_of], owner[asked_of]
    told = near.embed(texts.dictionary.to_pylist())
    text, item, value = nearest_items(told, vectors, owner, index.arrays.bench[owner], near.similarity)
    # Equal texts were embedded once; each row has what its text has.
    found = pa.table({"text": text, "item": item, "similarity": value})
    rows = pa.table({"text": texts.indices.cast(pa.int32()), "row": pa.array(np.arange(len(texts), dtype=np.int32))})
    joined = rows.join(found, "text", join_type="inner").select(["row", "item", "similarity"])
    joined = joined.sort_by([("row", "ascending"), ("item", "ascending")])
    return Part(shards=(storage.write_arrow(target.path(suffix=".arrow"), joined),))


class _Judged(NamedTuple):
    """One shard to remove rows from, its hits, and its rows near an item where they were asked for."""

    shard: ShardRef
    hits: ShardRef
    near: ShardRef | None


def _parts(
    desk: Desk, path: str, shards: Sequence[ShardRef], settings: Contamination, near: _Near | None
) -> list[Part]:
    scanned = desk.map(functools.partial(_scan_shard, path), shards, "scan")
    # Only n-grams of the index are counted: the sum holds at most 17 bytes for each of its tokens and each length.
    grams = sum_gram_counts(storage.map_arrow(part.side[0].path) for part in scanned)
    common = _common(desk, grams)
    beside: list[ShardRef | None] = [None] * len(shards)
    if near is not None:
        found = desk.map(functools.partial(_near_rows, path, near), shards, "paraphrases")
        beside = [part.shards[0] for part in found]
    work = [_Judged(shard, part.shards[0], more) for shard, part, more in zip(shards, scanned, beside, strict=True)]
    parts = desk.map(functools.partial(_remove, path, common.path, settings.rule, frozenset(settings.drop)), work)
    hits = [side for part in parts for side in part.side]
    return [*parts, _clean_ids(desk, _index(path), hits, grams, settings)]


def _build_index(specs: tuple[BenchmarkSpec, ...], target: Target) -> Part:
    index = build_index([(spec.name, benchmark_items(spec)) for spec in specs])
    return Part(shards=(storage.write_arrow(target.path(suffix=".arrow"), index_to_table(index)),))


@functools.lru_cache(maxsize=1)
def _index(path: str) -> BenchmarkIndex:
    """The index, mapped once per worker."""
    return index_from_table(storage.map_arrow(path))


def _scan_shard(path: str, shard: ShardRef, target: Target) -> Part:
    records = storage.read_parquet(shard.path, list(FIELDS))
    found = scan_texts(_index(path), *(_column(records, name) for name in FIELDS))
    return Part(
        shards=(storage.write_arrow(target.path(suffix=".arrow"), found.hits),),
        side=(storage.write_arrow(target.path("grams", ".arrow"), found.grams),),
    )


def _column(table: pa.Table, name: str) -> pa.StringArray:
    column = table[name]
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _common(desk: Desk, grams: pa.Table) -> ShardRef:
    """The 13-grams that more than COMMON_ROWS rows hold, sorted, in a file for the workers."""
    many = pc.and_(pc.equal(grams["length"], 13), pc.greater(grams["rows"], COMMON_ROWS))
    return storage.write_arrow(storage.join(desk.folder, "work", "common.arrow"), grams.filter(many).select(["gram"]))


def _remove(path: str, common_path: str, rule: str, drop: frozenset[str], work: _Judged, target: Target) -> Part:
    index = _index(path)
    records = storage.read_parquet(work.shard.path)
    common = storage.map_arrow(common_path)["gram"].to_numpy()
    hits = classify_hits(index, storage.map_arrow(work.hits.path), rule, common)
    if work.near is not None:
        sizes = np.stack([pc.binary_length(records[name]).to_numpy() for name in FIELDS], axis=1)
        hits = add_paraphrases(hits, storage.map_arrow(work.near.path), sizes)
    report = _report(index, records, hits)
    reasons: list[str | None] = [None] * records.num_rows
    evidence = [""] * records.num_rows
    for place, hit in sorted(zip(hits["row"].to_pylist(), report.to_pylist(), strict=True), key=_worst_first):
        if hit["class"] in drop and reasons[place] is None:
            reasons[place] = hit["class"]
            told = {
                "benchmark": hit["benchmark"],
                "item": hit["item"],
                "span": hit["span"],
                "score": round(hit["score"], 4),
                "rule": rule if hit["class"] != PARAPHRASE else "semantic",
            }
            evidence[place] = json.dumps(told, ensure_ascii=False)
    reason = pa.array(reasons, pa.string())
    gone = pc.is_valid(reason)
    dropped = records.filter(gone)
    marks = [
        pa.array([DROP_STAGE] * dropped.num_rows, pa.string()),
        reason.filter(gone),
        pa.array(evidence, pa.string()).filter(gone),
    ]
    for field, column in zip(DROP_FIELDS, marks, strict=True):
        dropped = dropped.append_column(field, column)
    part = commit(Outcome(records.filter(pc.invert(gone)), dropped), work.shard.rows, target)
    if not report.num_rows:
        return part
    report = report.append_column(REPORT.field("dropped"), gone.take(hits["row"].combine_chunks()))
    return part.model_copy(update={"side": (storage.write_parquet(target.path("hits"), report),)})


def _worst_first(hit: tuple[int, dict[str, Any]]) -> tuple[Any, ...]:
    """Of a row's hits the one that is its reason: by class, then score, then benchmark and item."""
    place, value = hit
    return place, CLASSES.index(value["class"]), -value["score"], value["benchmark"], value["item"]


def _report(index: BenchmarkIndex, records: pa.Table, hits: pa.Table) -> pa.Table:
    """Hits with names, ids and spans: REPORT without `dropped`."""
    hits = hits.combine_chunks()
    place, item = hits["row"].combine_chunks(), hits["item"].combine_chunks()
    starts, ends, spans, before, after = [], [], [], [], []
    # A loop over hits, not over records. Bytes become characters, which is what JSON, YAML and people count.
    texts = records.select(list(FIELDS)).take(place).to_pylist() if len(place) else []
    for text, field, start, end in zip(
        texts, hits["field"].to_pylist(), hits["start"].to_pylist(), hits["end"].to_pylist(), strict=True
    ):
        data = text[FIELDS[field]].encode()
        head, span, tail = data[:start].decode(), data[start:end].decode(), data[end:].decode()
        starts.append(len(head))
        ends.append(len(head) + len(span))
        spans.append(span if len(span) <= EXCERPT_CHARS else span[:EXCERPT_CHARS] + " …")
        before.append(head if len(head) <= AROUND else "… " + head[-AROUND:])
        after.append(tail if len(tail) <= AROUND else tail[:AROUND] + " …")
    numbers = item.to_numpy()
    parts = np.where(hits["kind"].to_numpy() == PASSAGE, index.arrays.passage[numbers], index.arrays.question[numbers])
    columns = [
        records["id"].take(place), records["source"].take(place),
        index.names.take(pa.array(index.arrays.bench[numbers])),
        index.ids.take(item), index.splits.take(item), hits["class"], hits["score"], hits["rules"], hits["longest"],
        pa.array(FIELDS, pa.string()).take(hits["field"].combine_chunks()),
        pa.array(starts, pa.int32()), pa.array(ends, pa.int32()), pa.array(spans, pa.string()),
        pa.array(before, pa.string()), pa.array(after, pa.string()), index.asked.take(pa.array(parts)),
    ]  # fmt: skip
    return pa.table(columns, schema=pa.schema(list(REPORT)[:-1]))


class _Tally:
    """What the hits of all shards come to, by benchmark: a shard at a time, so that hits need not fit in memory."""

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
        leaks, near = (frame.filter(pl.col("class") == kind) for kind in ("test_leak", PARAPHRASE))
        still = leaks.filter(~pl.col("dropped"))
        for found, rows in ((self.leaks, leaks), (self.remaining, still), (self.near, near)):
            for name, items in rows.group_by("benchmark").agg(pl.col("item").unique()).iter_rows():
                found[name].update(items)
        flagged = frame.explode("rules").drop_nulls("rules").group_by("benchmark", "rules")
        for name, rule, items, rows in flagged.agg(pl.col("item").unique(), pl.col("row").n_unique()).iter_rows():
            self.items[name, rule].update(items)
            self.rows[name, rule] += rows
        by_source = frame.group_by("benchmark", "source", "class").agg(pl.col("row").n_unique())
        for name, source, kind, rows in by_source.iter_rows():
            self.sources[name][source][kind] += rows


def _clean_ids(
    desk: Desk, index: BenchmarkIndex, hits: Sequence[ShardRef], grams: pa.Table, settings: Contamination
) -> Part:
    """Write `clean_ids/<benchmark>.json`. A resumed step makes these few small files anew: they need no receipt."""
    tally = _Tally()
    for ref in hits:
        tally.add(storage.read_parquet(ref.path, ["row", "source", "benchmark", "item", "class", "rules", "dropped"]))
    evaluated = ~index.arrays.trained.astype(np.bool_)
    shares = {
        length: covered_shares(index, grams.filter(pc.equal(grams["length"], length))["gram"].to_numpy(), length)
        for length in (13, 20)
    }
    union = corpus_flags(index, grams)
    side = []
    for number, name in enumerate(index.names.to_pylist()):
        mine = (index.arrays.bench == number) & evaluated
        ids = index.ids.filter(pa.array(mine)).to_pylist()
        whole = {rule: set(index.ids.filter(pa.array(mine & items)).to_pylist()) for rule, items in union.items()}
        # What no row holds alone, no row was dropped for.
        alone, dropped = tally.leaks[name], tally.leaks[name] - tally.remaining[name]
        leaks = alone | whole.get(settings.rule, set())
        value = {
            "benchmark": name,
            "rule": settings.rule,
            "items": len(ids),
            "contaminated": [item for item in ids if item in leaks],
            "clean": [item for item in ids if item not in leaks],
            "remaining": [item for item in ids if item in leaks - dropped],
            "paraphrased": [item for item in ids if item in tally.near[name]] if settings.semantic else None,
            "overlap": {
                str(length): {item: share for item, share in zip(ids, found[mine].tolist(), strict=True) if share}
                for length, found in shares.items()
            },
            "rules": {
                one: {
                    "items": len(set(ids) & (tally.items[name, one] | whole.get(one, set()))),
                    "rows": tally.rows[name, one],
                }
                for one in RULES
            },
            "sources": {
                source: {kind: kinds[kind] for kind in CLASSES if kinds[kind]}
                for source, kinds in sorted(tally.sources[name].items())
            },
        }
        path = storage.join(desk.folder, "clean_ids", f"{name}.json")
        storage.write_json(path, value)
        side.append(ShardRef(path=path, rows=len(ids), bytes=storage.size(path), digest=storage.digest(path)))
    return Part(side=tuple(side))

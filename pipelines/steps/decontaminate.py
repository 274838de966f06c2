"""Which rows hold evaluation items? They are dropped with their evidence, and each benchmark's clean items are listed.

Two passes over the shards: hits by shard; then, with the counts of common 13-grams known, classes and removal by shard.
What the step leaves beside the records is described in `pipelines.steps.contamination_report`.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.tokens import normalise
from filters.contamination.code import add_code, find_code
from filters.contamination.grams import sum_gram_counts
from filters.contamination.index import BenchmarkIndex
from filters.contamination.layout import READING
from filters.contamination.paraphrase import PARAPHRASE, SentenceModel, add_paraphrases
from filters.contamination.rules import CLASSES, COMMON_ROWS, classify_hits
from filters.contamination.scan import scan_texts
from filters.stage import mark
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target, commit_rows
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.recipe import TEXT_FIELDS, Contamination
from pipelines.steps.benchmark_index import (
    BENCHMARK_INDEX,
    contamination_of,
    identity_of,
    open_code_index,
    open_index,
)
from pipelines.steps.contamination_report import REPORT, clean_ids, describe
from pipelines.steps.item_vectors import ITEM_VECTORS, Neighbours, near_rows
from pipelines.steps.products import CLEAN_IDS, CODE_INDEX, HITS, INDEX, RECORDS, VECTORS
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep, form

STAGE = "contamination"


def drop_contaminated(
    run: Run,
    records: Manifest,
    settings: Contamination,
    index: Manifest,
    vectors: Manifest | None = None,
    model: SentenceModel | None = None,
    as_text: bool = True,
) -> Manifest:
    """Drop the records that hold benchmark items, by the rule `settings.rule`, in the classes `settings.drop`.

    Dropped rows have stage `contamination`, the class as reason, and evidence JSON {benchmark, item, span, score,
    rule}; a near leak also has `missing` and `added`, the words by which its span differs from the question.

    index: the step of `benchmark_index` for the same settings. vectors, model: the step of `item_vectors` and the model
    that made it, for `settings.semantic`. as_text: as `commit_rows`.

    Raises: InputError: for benchmark files that cannot be read.
    """
    parameters: dict[str, Any] = {
        "rule": settings.rule,
        "drop": sorted(settings.drop),
        "benchmarks": [identity_of(spec) for spec in settings.benchmarks],
        **form(as_text),
    }
    neighbours = None
    if settings.semantic:
        assert model is not None and vectors is not None, "a caller that allows `semantic` gives model and vectors"
        parameters |= {"similarity": settings.similarity}
        neighbours = Neighbours(model.embed, vectors.tables(VECTORS), settings.similarity)
    parents = (records.key, index.key, *([vectors.key] if vectors else []))
    step = CONTAMINATION.step(parameters, parents)
    files = IndexFiles(index.file(INDEX), index.file(CODE_INDEX))
    return run.do(step, lambda context: _parts(context, files, records.shards, settings, neighbours, as_text), records)


def _make(build: Build) -> Manifest:
    index, vectors = build.made[BENCHMARK_INDEX.name], build.made.get(ITEM_VECTORS.name)
    return drop_contaminated(
        build.run, build.records, contamination_of(build.recipe), index, vectors, build.model if vectors else None,
        as_text=build.as_text(CONTAMINATION.name),
    )  # fmt: skip


CONTAMINATION = RecipeStep(
    name="contamination",
    products={
        RECORDS: "the records that hold no item in a class that drops",
        DROPPED_ROWS: DROPPED_RECORDS,
        HITS: "every hit of a shard's rows, those of rows that stay too",
        CLEAN_IDS: "for each benchmark, which items the corpus held and which it did not",
    },
    kept=RECORDS,
    wanted=lambda recipe: bool(recipe.contamination),
    make=_make,
)


class IndexFiles(NamedTuple):
    """Files of the step `benchmark-index`: items, and the solutions of those that are programs."""

    items: FileRef
    code: FileRef


class _Judged(NamedTuple):
    """One shard to remove rows from, its hits, the solutions in it, and its rows near an item where these were looked
    for."""

    shard: TableRef
    hits: TableRef
    code: TableRef
    near: TableRef | None


def _parts(
    context: StepContext,
    files: IndexFiles,
    shards: Sequence[TableRef],
    settings: Contamination,
    neighbours: Neighbours | None,
    as_text: bool,
) -> list[Part]:
    path = files.items.path
    scanned = context.map(functools.partial(_scan_shard, files), shards, "scan")
    # Only n-grams of the index are counted: the sum holds at most 17 bytes for each of its tokens and each length.
    grams = sum_grams(context, [part.file("grams") for part in scanned])
    common = common_grams(context, grams)
    near: list[TableRef | None] = [None] * len(shards)
    if neighbours is not None:
        found = context.map(functools.partial(near_rows, path, neighbours), shards, "paraphrases")
        near = [part.table("near") for part in found]
    items = [
        _Judged(shard, part.table("hits"), part.table("code"), rows)
        for shard, part, rows in zip(shards, scanned, near, strict=True)
    ]
    work = functools.partial(_remove, path, common.path, settings.rule, frozenset(settings.drop), as_text)
    parts = context.map(work, items)
    hits = [file for part in parts for file in part.files.get(HITS, ())]
    return [*parts, clean_ids(context.folder, open_index(path), hits, grams, settings)]


def _scan_shard(files: IndexFiles, shard: TableRef, target: Target) -> Part:
    return scan_records(files, storage.read_parquet(shard.path, list(TEXT_FIELDS)), target)


def scan_records(files: IndexFiles, records: pa.Table, target: Target) -> Part:
    """Scan records and write what they hold: `hits`, `grams` and `code`, one Arrow file each."""
    texts = [as_array(records[name].cast(pa.string())) for name in TEXT_FIELDS]
    result = scan_texts(open_index(files.items.path), *texts)
    code = find_code(open_code_index(files.code.path), *texts)
    return part(
        hits=storage.write_arrow(target.path(suffix=".arrow"), result.hits),
        grams=storage.write_arrow(target.path("grams", ".arrow"), result.grams),
        code=storage.write_arrow(target.path("code", ".arrow"), pa.table(code._asdict())),
    )


def judge_hits(
    index: BenchmarkIndex, hits: TableRef, code: TableRef, rule: str, common: npt.NDArray[np.uint64]
) -> pa.Table:
    """Classified hits of scanned records. Winnow's own rule also counts solutions in other names."""
    judged = classify_hits(index, storage.map_arrow(hits.path), rule, common)
    return add_code(judged, storage.map_arrow(code.path), index.arrays.trained) if rule == "ngram13" else judged


def find_leaks(
    context: StepContext,
    index: Manifest,
    shards: Sequence[TableRef],
    all_shards: Sequence[TableRef],
    settings: Contamination,
) -> list[str]:
    """The ids of rows in `shards` that hold an item in a class of `settings.drop`; paraphrases are not looked for.

    all_shards: those by which it is judged which n-grams are common.
    """
    files = IndexFiles(index.file(INDEX), index.file(CODE_INDEX))
    counted = context.map(functools.partial(_scan_shard, files), all_shards, "scan-all")
    common = common_grams(context, sum_grams(context, [part.file("grams") for part in counted]))
    scanned = context.map(functools.partial(_scan_shard, files), shards, "scan")
    items = [(shard, part.table("hits"), part.table("code")) for shard, part in zip(shards, scanned, strict=True)]
    work = functools.partial(_leaking_rows, files.items.path, common.path, settings.rule, frozenset(settings.drop))
    leaking = context.map(work, items, "leaks")
    return [row for part in leaking for row in storage.map_arrow(part.file("rows").path)["id"].to_pylist()]


def _leaking_rows(
    path: str,
    common_path: str,
    rule: str,
    drop: frozenset[str],
    item: tuple[TableRef, TableRef, TableRef],
    target: Target,
) -> Part:
    """The ids of a shard's rows with a hit in a class of `drop`: product `rows`."""
    shard, hits_file, code = item
    common = storage.map_arrow(common_path)["gram"].to_numpy()
    hits = judge_hits(open_index(path), hits_file, code, rule, common)
    leaks = hits.filter(pc.is_in(hits["class"], value_set=pa.array(sorted(drop), pa.string())))
    ids = storage.read_parquet(shard.path, ["id"], pc.unique(leaks["row"]))["id"]
    return part(rows=storage.write_arrow(target.path("rows", ".arrow"), pa.table({"id": ids})))


def sum_grams(context: StepContext, files: Sequence[FileRef]) -> pa.Table:
    """GRAM_COUNTS of all shards added up."""
    return _sum_files(context.merge(_sum_grams, files, "grams"))


def _sum_grams(files: Sequence[FileRef], target: Target) -> Part:
    return part(grams=storage.write_arrow(target.path("grams", ".arrow"), _sum_files(files)))


def _sum_files(files: Sequence[FileRef]) -> pa.Table:
    return sum_gram_counts(storage.map_arrow(file.path) for file in files)


def common_grams(context: StepContext, grams: pa.Table) -> TableRef:
    """The 13-grams that more than COMMON_ROWS rows hold, sorted, in a file for the workers."""
    many = pc.and_(pc.equal(grams["length"], 13), pc.greater(grams["rows"], COMMON_ROWS))
    path = storage.join(context.work_folder, "common.arrow")
    return storage.write_arrow(path, grams.filter(many).select(["gram"]))


def _remove(
    path: str, common_path: str, rule: str, drop: frozenset[str], as_text: bool, item: _Judged, target: Target
) -> Part:
    index = open_index(path)
    records = storage.read_parquet(item.shard.path)
    common = storage.map_arrow(common_path)["gram"].to_numpy()
    hits = judge_hits(index, item.hits, item.code, rule, common)
    if item.near is not None:
        sizes = np.stack([pc.binary_length(records[name]).to_numpy() for name in TEXT_FIELDS], axis=1)
        hits = add_paraphrases(hits, storage.map_arrow(item.near.path), sizes)
    report = describe(index, records, hits)
    reasons: list[str | None] = [None] * records.num_rows
    evidence = [""] * records.num_rows
    drops = pc.is_in(hits["class"], value_set=pa.array(sorted(drop), pa.string()))  # of all hits few
    rows, found = hits["row"].filter(drops), report.filter(drops)
    for row, hit in sorted(zip(rows.to_pylist(), found.to_pylist(), strict=True), key=_worst_first):
        if reasons[row] is None:
            reasons[row] = hit["class"]
            value = {
                "benchmark": hit["benchmark"],
                "item": hit["item"],
                "span": hit["span"],
                "score": round(hit["score"], 4),
                "rule": rule if hit["class"] != PARAPHRASE else "semantic",
            }
            if hit["class"] == "near_leak":
                value |= _differing_words(hit["asked"], hit["span"])
            evidence[row] = json.dumps(value, ensure_ascii=False)
    reason = pa.array(reasons, pa.string())
    leaks = pc.is_valid(reason)
    dropped = mark(records.filter(leaks), STAGE, reason.filter(leaks), pa.array(evidence, pa.string()).filter(leaks))
    part = commit_rows(item.shard, records, pc.invert(leaks), dropped, target, as_text)
    if not report.num_rows:
        return part
    report = report.append_column(REPORT.field("dropped"), leaks.take(hits["row"].combine_chunks()))
    return part.with_file(HITS, storage.write_parquet(target.path("hits"), report))


def _differing_words(asked: str, span: str) -> dict[str, list[str]]:
    """The words of a question that a span lacks, and those that it has besides, as they are compared. Both texts may be
    cut at the end."""
    texts = pa.array([asked.removesuffix(" …"), span.removesuffix(" …")], pa.string())
    left, right = (text.split() for text in normalise(texts, READING).to_pylist())
    size = min(len(left), len(right)) if asked.endswith(" …") or span.endswith(" …") else None
    matcher = difflib.SequenceMatcher(None, left[:size], right[:size], autojunk=False)
    changes = [change[1:] for change in matcher.get_opcodes() if change[0] != "equal"]
    missing = [word for i, j, _, _ in changes for word in left[:size][i:j]]
    return {"missing": missing, "added": [word for _, _, k, m in changes for word in right[:size][k:m]]}


def _worst_first(hit: tuple[int, dict[str, Any]]) -> tuple[Any, ...]:
    """Sorts the hits of a row so that the one that names its reason comes first: by class, score, benchmark, item."""
    row, value = hit
    return row, CLASSES.index(value["class"]), -value["score"], value["benchmark"], value["item"]

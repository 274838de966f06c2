"""Which evaluation items do the rows hold that are drawn for training? It divides the items in `winnow evaluate`.

    trained_items/<benchmark>.json   {benchmark, rule, items, rows, found: [ids], not_found: [ids],
                                      overlap: {"13": {id: share}, "20": {id: share}}}

The contamination step sees more rows: those that it drops itself, and those that no epoch draws. So this step scans
again, only rows with draws in the pack step's `row_fates`. `rows` is their number, each counted once. `found` are items
of which a drawn row is a `test_leak` by the recipe's rule, or which all drawn rows together hold, where the rule takes
that union. `overlap` has the shares of an item's tokens inside n-grams of the drawn rows, where they are not 0. The
whole text of a row counts, also where its response is cut to the context.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.coverage import Coverage
from filters.contamination.rules import corpus_flags
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ids_of
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.recipe import TEXT_FIELDS, Contamination
from pipelines.steps.benchmark_index import BENCHMARK_INDEX, contamination_of, open_index
from pipelines.steps.contamination_report import OVERLAP_LENGTHS
from pipelines.steps.decontaminate import IndexFiles, common_grams, judge_hits, scan_records, sum_grams
from pipelines.steps.pack import PACK
from pipelines.steps.products import CODE_INDEX, INDEX, ROW_FATES, TRAINED_ITEMS
from pipelines.steps.step import Estimate, Rates, RecipeStep, Workload
from pipelines.steps.tokenize import TOKENS


def training_overlap(
    run: Run, records: Manifest, tokens: Manifest, packs: Manifest, index: Manifest, settings: Contamination
) -> Manifest:
    """Measure which items of the index the drawn rows hold.

    records, tokens, packs: the text records, the step of `tokenize` that read them, and that of `pack` that drew them.
    """
    step = TRAINING_OVERLAP.step({"rule": settings.rule}, (records.key, tokens.key, packs.key, index.key))
    shards = [
        _Shard(*files) for files in zip(records.shards, tokens.shards, packs.tables(ROW_FATES), strict=True)
    ]  # each step writes one file for each shard of the step before
    files = IndexFiles(index.file(INDEX), index.file(CODE_INDEX))
    return run.do(step, lambda context: _parts(context, files, shards, settings))


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate:
    """It reads the rows drawn: at most all of them, each once. It writes a few small files."""
    rate = rates[step]
    drawn = min(1.0, workload.drawn_rows * workload.recipe.sampling.epochs / max(workload.rows, 1.0))
    seconds = rate.core_seconds_before + drawn * workload.text_bytes / 1e6 / rate.mb_per_core_second
    return Estimate(seconds, rate.memory_gb, 0.0)


TRAINING_OVERLAP = RecipeStep(
    name="training-overlap",
    products={TRAINED_ITEMS: "for each benchmark, which items the rows drawn for training hold"},
    wanted=lambda recipe: bool(recipe.contamination),
    make=lambda build: training_overlap(
        build.run,
        build.records,
        build.made[TOKENS.name],
        build.made[PACK.name],
        build.made[BENCHMARK_INDEX.name],
        contamination_of(build.recipe),
    ),
    estimate=_estimate,
)


class _Shard(NamedTuple):
    """Records, their tokens and what became of these in the pack step."""

    records: TableRef
    tokens: TableRef
    fates: TableRef


def _parts(context: StepContext, files: IndexFiles, shards: Sequence[_Shard], settings: Contamination) -> list[Part]:
    scanned = context.map(functools.partial(_scan_drawn, files), shards, "scan")
    grams = sum_grams(context, [part.file("grams") for part in scanned])
    common = common_grams(context, grams)
    work = functools.partial(_leaked_items, files.items.path, common.path, settings.rule)
    leaked = context.map(work, [(part.table("hits"), part.table("code")) for part in scanned], "items")

    index = open_index(files.items.path)
    found = np.zeros(len(index.arrays.question), np.bool_)
    for file in context.merge(_merge_items, [one.file("items") for one in leaked], "items"):
        found[storage.map_arrow(file.path)["item"].to_numpy()] = True
    coverage = Coverage(index, grams)
    union = corpus_flags(coverage)
    if settings.rule in union:
        found |= union[settings.rule]
    shares = {length: coverage.shares(length) for length in OVERLAP_LENGTHS}
    evaluated = ~index.arrays.trained.astype(np.bool_)
    written = []
    for number, name in enumerate(index.names.to_pylist()):
        own = (index.arrays.bench == number) & evaluated
        ids = index.ids.filter(pa.array(own)).to_pylist()
        value = {
            "benchmark": name,
            "rule": settings.rule,
            "items": len(ids),
            "rows": sum(part.counts["rows"] for part in scanned),
            "found": [item for item, one in zip(ids, found[own].tolist(), strict=True) if one],
            "not_found": [item for item, one in zip(ids, found[own].tolist(), strict=True) if not one],
            "overlap": {
                str(length): {item: share for item, share in zip(ids, all_shares[own].tolist(), strict=True) if share}
                for length, all_shares in shares.items()
            },
        }
        written.append(storage.write_json(storage.join(context.folder, TRAINED_ITEMS, f"{name}.json"), value))
    return [Part(files={TRAINED_ITEMS: tuple(written)})]


def _scan_drawn(files: IndexFiles, shard: _Shard, target: Target) -> Part:
    """Scan the rows of a shard that some epoch draws for training."""
    draws = storage.read_parquet(shard.fates.path, ["draws"])["draws"]
    ids = ids_of(shard.tokens).filter(pc.greater(draws, 0).combine_chunks())
    records = pl.DataFrame(storage.read_parquet(shard.records.path, ["id", *TEXT_FIELDS]))
    drawn = records.join(pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)}), on="id", how="semi").to_arrow()
    assert drawn.num_rows == len(ids), "the tokens step keeps the ids of its records"
    return replace(scan_records(files, drawn, target), counts={"rows": drawn.num_rows})


def _leaked_items(path: str, common_path: str, rule: str, found: tuple[TableRef, TableRef], target: Target) -> Part:
    """The items that a row of the shard holds by the rule."""
    index = open_index(path)
    common = storage.map_arrow(common_path)["gram"].to_numpy()
    judged = judge_hits(index, *found, rule, common)
    items = judged.filter(pc.equal(judged["class"], "test_leak"))["item"]
    table = pa.table({"item": pa.array(np.unique(items.to_numpy()), pa.int32())})
    return part(items=storage.write_arrow(target.path(suffix=".arrow"), table))


def _merge_items(files: Sequence[FileRef], target: Target) -> Part:
    """The items of several files, each once."""
    items = pa.concat_tables([storage.map_arrow(file.path) for file in files])["item"].unique()
    return part(items=storage.write_arrow(target.path("items", ".arrow"), pa.table({"item": items})))


def read_trained_items(training_overlap: Manifest, benchmark: str) -> dict[str, Any] | None:
    """What the step's `trained_items` says of a benchmark; None where the corpus was not checked against it."""
    values = (storage.read_json(file.path) for file in training_overlap.files(TRAINED_ITEMS))
    return next((value for value in values if value["benchmark"] == benchmark), None)

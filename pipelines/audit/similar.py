"""Which rows of a corpus are similar to a text?

The index of a corpus is a step of its own, `similar`, made once: for each shard an LSH forest of its rows' MinHash
signatures (`pipelines.audit.lsh_forest`), 580 bytes per row on disk. A query asks each forest in turn for its nearest
rows, ranks them by the Jaccard that their signatures estimate, reads the best of them, and ranks these by exact
Jaccard.

A forest returns the rows that share the longest prefix with the text in one of its trees, so a query needs no
threshold. It finds rows that duplicate removal would not consider.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from dedup.columns import as_array
from dedup.minhash import signatures
from dedup.probability import recall
from dedup.shingles import Unit, shingle_hashes
from dedup.similarity import jaccard, shingle_sets
from filters.stage import RenamedKeyWarning
from pipelines.audit.lsh_forest import PERMUTATIONS, SEED, TREES, MappedForest, forest_table, minhash
from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import StepType
from pipelines.ledger.storage import TableRef
from pipelines.recipe import TEXT_FIELDS, NearDuplicates, TextField
from pipelines.steps.duplicates.near import banding_of

CANDIDATES_PER_SHARD = 1000
"""Rows that the forest of a shard returns. With 200, some rows of templates with many instances were missed."""

ROWS_READ_PER_MATCH = 4
"""Rows that are read for each row of the answer, those with the highest estimates. The exact Jaccard then corrects the
order of estimates, whose standard error is at most 0.044."""

FOREST = "forest"

SIMILAR = StepType(
    name="similar",
    products={FOREST: "for each shard the LSH forest of its rows (`pipelines.audit.lsh_forest`)"},
)

Numbers = npt.NDArray[np.int64]

COLUMNS = ["id", "condition", "instruction", "response"]


class Comparison(NamedTuple):
    """How texts are compared: by the n-grams of `ngram` units (words or characters) of the fields, which are joined by
    a line feed."""

    fields: tuple[TextField, ...]
    ngram: int
    unit: Unit


class SimilarRow(BaseModel):
    """A row of the corpus and its exact Jaccard with the text."""

    model_config = ConfigDict(frozen=True)

    jaccard: float
    id: str
    condition: str
    instruction: str
    response: str


class SimilarRows(BaseModel):
    """The rows most similar to a text.

    matches: the highest Jaccard first. candidates: rows that the forests returned, at most CANDIDATES_PER_SHARD per
    shard; the Jaccard of each was estimated from its signature. rows: of the corpus.
    """

    model_config = ConfigDict(frozen=True)

    matches: tuple[SimilarRow, ...]
    candidates: int
    rows: int


class _Candidates(NamedTuple):
    """Rows that forests returned: number of the shard, row in it, values shared with the query; int64 [n] each."""

    shard: Numbers
    row: Numbers
    shared: Numbers


def similar(
    run: Run, records: Manifest, text: str, fields: Sequence[TextField], ngram: int, unit: Unit, top: int
) -> SimilarRows:
    """The `top` rows of `records` that are most similar to `text`; fewer if fewer share an n-gram with it.

    fields, ngram, unit: see `Comparison`. Makes the index if there is none. `found_share` gives the recall.

    Raises: InputError: if the text is shorter than an n-gram.
    """
    query_text = pa.array([text], pa.string())
    shingles = shingle_hashes(query_text, ngram, unit)
    if not len(shingles.hash):
        what = "words, numbers and signs" if unit == "word" else "characters"
        raise InputError(f"the text is too short: rows are compared by runs of {ngram} {what}; give a longer one")
    forests = index(run, records, fields, ngram, unit).tables(FOREST)
    candidates = _candidates(forests, signatures(shingles, PERMUTATIONS, SEED).values[0])
    best = np.lexsort((candidates.row, candidates.shard, -candidates.shared))[: ROWS_READ_PER_MATCH * top]
    rows = _read_rows(records.shards, candidates.shard[best], candidates.row[best])
    texts = pa.concat_arrays([query_text, _joined(rows, fields)])
    pairs = np.stack([np.zeros(rows.num_rows, np.int64), np.arange(1, rows.num_rows + 1)], axis=1)
    exact = jaccard(shingle_sets(shingle_hashes(texts, ngram, unit)), pairs)
    ranked = np.lexsort((np.arange(len(exact)), -exact))[:top]
    ranked = ranked[exact[ranked] > 0]
    matches = zip(exact[ranked].tolist(), rows.take(pa.array(ranked)).to_pylist(), strict=True)
    return SimilarRows(
        matches=tuple(SimilarRow(jaccard=value, **row) for value, row in matches),
        candidates=len(candidates.row),
        rows=records.rows_kept or 0,
    )


def index(run: Run, records: Manifest, fields: Sequence[TextField], ngram: int, unit: Unit) -> Manifest:
    """Make, or reuse, the index of a corpus: product `forest`, a file for each shard."""
    parameters = {
        "fields": list(fields),
        "ngram": ngram,
        "unit": unit,
        "permutations": PERMUTATIONS,
        "trees": TREES,
        "seed": SEED,
    }
    work = functools.partial(_index_shard, Comparison(tuple(fields), ngram, unit))
    return run.do(SIMILAR.step(parameters, (records.key,)), lambda context: context.map(work, records.shards))


def settings_of(run: RecordedRun, on: str | None) -> Comparison:
    """How a run's near-duplicate step compares rows.

    on: `instruction`, `response` or `both` compares these fields instead of the recipe's.
    """
    recorded = run.info["settings"]["near_duplicates"] or NearDuplicates().model_dump(mode="json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedKeyWarning)  # a run of an earlier version has the former keys
        settings = NearDuplicates.model_validate(recorded)
    banding = banding_of(settings)
    choices = {"both": TEXT_FIELDS, "instruction": TEXT_FIELDS[:1], "response": TEXT_FIELDS[1:]}
    return Comparison(tuple(settings.thresholds) if on is None else choices[on], banding.ngram, banding.unit)


def found_share(similarity: float) -> float:
    """The share of rows with this Jaccard that agree with the text in the first two values of some tree.

    The forest returns these rows, unless CANDIDATES_PER_SHARD rows of the shard agree in more values. It also returns
    rows that agree in one value only, if there are fewer than that; they are not counted here.
    """
    return recall(similarity, TREES, 2)


def _index_shard(comparison: Comparison, shard: TableRef, target: Target) -> Part:
    records = storage.read_parquet(shard.path, list(comparison.fields))
    shingles = shingle_hashes(_joined(records, comparison.fields), comparison.ngram, comparison.unit)
    signed = signatures(shingles, PERMUTATIONS, SEED)
    rows = np.flatnonzero(signed.valid)
    table = forest_table(rows.astype(np.uint32), signed.values[rows])
    return part(forest=storage.write_arrow(target.path(suffix=".arrow"), table))


def _joined(records: pa.Table, fields: Sequence[TextField]) -> pa.StringArray:
    columns = [as_array(records[field]) for field in fields]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\n")


def _candidates(forests: Sequence[TableRef], signature: npt.NDArray[np.uint32]) -> _Candidates:
    query = minhash(signature)
    pieces = [np.empty((3, 0), np.int64)]
    for shard, file in enumerate(forests):
        forest = MappedForest(storage.map_arrow(file.path))
        keys = np.array(sorted(forest.query(query, CANDIDATES_PER_SHARD)), np.int64)
        rows, shared = forest.rows[keys].astype(np.int64), forest.shared_values(keys, signature)
        pieces.append(np.stack([np.full(len(keys), shard), rows, shared]))
    return _Candidates(*np.concatenate(pieces, axis=1))


def _read_rows(shards: Sequence[TableRef], shard: Numbers, row: Numbers) -> pa.Table:
    """The rows (shard[i], row[i]), sorted by shard and row. Reads only the shards that contain one."""
    empty = pa.table({name: pa.array([], pa.string()) for name in COLUMNS})
    tables = [
        storage.read_parquet(shards[number].path, COLUMNS, pa.array(np.sort(row[shard == number])))
        for number in np.unique(shard).tolist()
    ]
    return pa.concat_tables(tables or [empty]).combine_chunks()

"""Which rows of a corpus are like a text.

An index of the corpus is made once, as a step of its own below the corpus's root, and then reused: for every shard the
band keys of its rows, sorted, 12 bytes a band and so 384 a row. A question maps those files and looks its own keys up,
so what is read is a page here and there. The rows that share most bands are read, their signatures go into
datasketch's `MinHashLSH`, which answers, and its answers are ranked by exact Jaccard. (All of a corpus in one
`MinHashLSH` would take some 5 KB of memory a row.)

The bands are looser than those that removed duplicates: what is asked for here is what is near, not what must go.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasketch import LeanMinHash, MinHashLSH

from dedup.minhash import band_keys, signatures
from dedup.probability import Banding, recall
from dedup.shingles import Unit, shingle_hashes
from dedup.similarity import jaccard, shingle_sets
from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import StepType
from pipelines.ledger.storage import TableRef
from pipelines.recipe import TEXT_FIELDS, NearDuplicates, TextField
from pipelines.steps.duplicates.near import banding_of

BANDS, ROWS = 32, 4
"""Of pairs with Jaccard 0.5 87 % are found, of those with 0.6 98.8 %."""

SEED = 1

CANDIDATES = 200
"""Rows that are read for one question: those with most bands in common, the earlier where there are too many."""

Numbers = npt.NDArray[np.int64]


class Match(NamedTuple):
    """A row of the corpus and its Jaccard with the text: a whole row, as it stands in the corpus."""

    jaccard: float
    row: dict[str, Any]


class Found(NamedTuple):
    """The nearest rows, nearest first; how many shared a band with the text; how many were searched."""

    matches: list[Match]
    met: int
    rows: int


def index(run: Run, records: Manifest, fields: Sequence[TextField], ngram: int, unit: Unit) -> Manifest:
    """Make, or find, the index of a corpus: per shard an Arrow file of (key uint64, row uint32), sorted by key."""
    about = {"fields": list(fields), "ngram": ngram, "unit": unit, "bands": BANDS, "rows": ROWS, "seed": SEED}
    step = SIMILAR.step(about, (records.key,))
    work = functools.partial(_index_shard, tuple(fields), Banding(BANDS, ROWS, ngram, unit))
    return run.do(step, lambda context: context.map(work, records.shards))


BAND_KEYS = "band_keys"

SIMILAR = StepType(
    name="similar", version=1, products={BAND_KEYS: "for each shard the band keys of its rows, sorted, and their rows"}
)


def similar(
    run: Run, records: Manifest, text: str, fields: Sequence[TextField], ngram: int, unit: Unit, top: int
) -> Found:
    """The `top` rows of `records` whose `fields`, joined by a line feed, are most like `text`.

    The Jaccard is that of n-grams of `ngram` words or characters, as near duplicates have it. Rows are found as
    1 - (1 - s**ROWS)**BANDS says; what shares no band has no place here.

    Errors: InputError where the text is too short to have an n-gram.
    """
    banding = Banding(BANDS, ROWS, ngram, unit)
    asked = pa.array([text], pa.string())
    shingles = shingle_hashes(asked, ngram, unit)
    if not len(shingles.hash):
        what = "words, numbers and signs" if unit == "word" else "characters"
        raise InputError(f"the text is too short: rows are compared by runs of {ngram} {what}; give a longer one")
    signed = signatures(shingles, banding.num_perm, SEED).values
    keys = band_keys(signed, BANDS, ROWS)[0]
    shard, local, shared = _meet(index(run, records, fields, ngram, unit).tables(BAND_KEYS), keys)
    nearest = np.lexsort((local, shard, -shared))[:CANDIDATES]
    rows = _rows(records.shards, shard[nearest], local[nearest])
    texts = _joined(rows, fields)
    among = signatures(shingle_hashes(texts, ngram, unit), banding.num_perm, SEED).values
    lsh = MinHashLSH(num_perm=banding.num_perm, params=(BANDS, ROWS))
    for number, values in enumerate(among):
        lsh.insert(number, LeanMinHash(seed=SEED, hashvalues=values, scheme="affine32"))
    answers = np.array(sorted(lsh.query(LeanMinHash(seed=SEED, hashvalues=signed[0], scheme="affine32"))), np.int64)
    sets = shingle_sets(shingle_hashes(pa.concat_arrays([asked, texts]), ngram, unit))
    alike = jaccard(sets, np.stack([np.zeros(len(answers), np.int64), answers + 1], axis=1))
    best = np.lexsort((answers, -alike))[:top]
    found = rows.take(pa.array(answers[best])).to_pylist()
    matches = [Match(float(value), row) for value, row in zip(alike[best], found, strict=True)]
    return Found(matches, len(shard), records.rows_kept or 0)


def settings_of(run: RecordedRun, on: str | None) -> tuple[tuple[TextField, ...], int, Unit]:
    """The fields, n-gram and unit by which a run's rows are compared: its recipe's, or the fields that `on` says."""
    asked = run.info["settings"]["near_duplicates"] or NearDuplicates().model_dump(mode="json")
    settings = NearDuplicates.model_validate(asked)
    banding = banding_of(settings)
    both = {"both": TEXT_FIELDS, "instruction": TEXT_FIELDS[:1], "response": TEXT_FIELDS[1:]}
    return settings.fields if on is None else both[on], banding.ngram, banding.unit


def found_share(similarity: float) -> float:
    """The share of rows with this Jaccard that a question finds."""
    return recall(similarity, BANDS, ROWS)


def _index_shard(fields: tuple[TextField, ...], banding: Banding, shard: TableRef, target: Target) -> Part:
    records = storage.read_parquet(shard.path, list(fields))
    signed = signatures(shingle_hashes(_joined(records, fields), banding.ngram, banding.unit), banding.num_perm, SEED)
    valid = np.flatnonzero(signed.valid)
    keys = band_keys(signed.values[valid], banding.bands, banding.rows).ravel()
    order = np.argsort(keys, kind="stable")
    rows = np.repeat(valid.astype(np.uint32), banding.bands)[order]
    table = pa.table({"key": keys[order], "row": rows})
    return part(band_keys=storage.write_arrow(target.path(suffix=".arrow"), table))


def _joined(records: pa.Table, fields: Sequence[TextField]) -> pa.StringArray:
    columns = [records[field].combine_chunks() for field in fields]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\n")


def _meet(files: Sequence[TableRef], keys: npt.NDArray[np.uint64]) -> tuple[Numbers, Numbers, Numbers]:
    """The rows that share a band key: number of the shard, row in it, bands shared; int64 [rows] each."""
    found = []
    for number, file in enumerate(files):
        table = storage.map_arrow(file.path)
        there, rows = table["key"].to_numpy(), table["row"].to_numpy()
        starts, stops = (np.searchsorted(there, keys, side) for side in ("left", "right"))
        pieces = [rows[start:stop] for start, stop in zip(starts, stops, strict=True)]
        local, shared = np.unique(np.concatenate(pieces), return_counts=True)
        found.append(np.stack([np.full(len(local), number), local, shared]).astype(np.int64))
    shard, local, shared = np.concatenate([np.empty((3, 0), np.int64), *found], axis=1)
    return shard, local, shared


def _rows(shards: Sequence[TableRef], shard: Numbers, local: Numbers) -> pa.Table:
    """The rows asked for, in order of their place; of the shards only those that hold one are read."""
    tables = [
        storage.read_parquet(shards[number].path).take(pa.array(np.sort(local[shard == number])))
        for number in np.unique(shard).tolist()
    ]
    empty = pa.table({name: pa.array([], pa.string()) for name in ("id", "condition", "instruction", "response")})
    kept = pa.concat_tables([table.select(empty.column_names) for table in tables]) if tables else empty
    return kept.combine_chunks()

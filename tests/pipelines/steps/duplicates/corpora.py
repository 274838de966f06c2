"""Records with many duplicates, finished steps that contain them, and an engine whose tasks fail."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.exact import digest128
from dedup.invariants import invariants
from dedup.minhash import band_keys, signatures
from dedup.shingles import Shingles, shingle_hashes
from dedup.similarity import Sets, jaccard
from dedup.tokens import normalise
from pipelines.ledger import storage
from pipelines.ledger.engine import ONE_CPU, Engine, LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.step import Resources
from pipelines.recipe import NearDuplicates
from pipelines.records import RECORD
from pipelines.steps.duplicates.boilerplate import MIN_ROWS
from pipelines.steps.duplicates.near import FIELD_MASKS, banding_of
from tests.steps import records_of

Item = TypeVar("Item")
Result = TypeVar("Result")
FINEWEB = NearDuplicates(preset="fineweb")
REQUEST = "Say in one short sentence what the text above is about."


class TaskDied(Exception):
    """The process of a task died."""


class FaultyEngine:
    """An engine that loses the result of one task and then stops, or runs every task twice.

    die_after: the number of tasks that succeed first, -1 for all. The lost task has written its files and its receipt.
    """

    workers = 1

    def __init__(self, die_after: int = -1, twice: bool = False) -> None:
        self.remaining, self.twice = die_after, twice

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        for item in items:
            result = work(item)
            if self.remaining == 0:
                raise TaskDied
            self.remaining -= 1
            yield work(item) if self.twice else result


def records_table(ids: list[str], instruction: list[str], response: list[str], source: str = "s") -> pa.Table:
    texts = [pa.array(column, pa.string()) for column in (instruction, response)]
    constants = [pa.array([value] * len(ids), pa.string()) for value in (source, "direct")]
    return pa.table([pa.array(ids, pa.string()), *constants, *texts, digest128(*texts)], schema=RECORD)


def given(root: Path, tables: list[pa.Table], engine: Engine | None = None) -> tuple[Run, Manifest]:
    run = Run(str(root), engine or LocalEngine(1))
    return run, records_of(run, tables)


def kept_rows(manifest: Manifest) -> pa.Table:
    return pa.concat_tables([storage.read_parquet(shard.path) for shard in manifest.shards])


def dropped(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Id -> evidence of each dropped row."""
    tables = [storage.read_parquet(shard.path) for shard in manifest.dropped]
    return {row["id"]: json.loads(row["evidence"]) for table in tables for row in table.to_pylist()}


def kept_ids(manifest: Manifest) -> list[str]:
    return sorted(kept_rows(manifest)["id"].to_pylist())


def word(number: int) -> str:
    """A word of letters for each number."""
    return "w" + str(number).translate(str.maketrans("0123456789", "abcdefghij"))


def drifting(rows: int, seed: int = 0, words: int = 30, fresh_share: float = 0.1) -> pa.Table:
    """Records whose texts are earlier ones with up to two words changed: chains, clusters, copies and unique texts. All
    end with the same request. fresh_share: of texts that are no earlier one; the more, the smaller the clusters."""
    rng = np.random.default_rng(seed)
    tokens = np.empty((rows, words), np.int64)
    for row in range(rows):
        fresh = row == 0 or rng.random() < fresh_share
        tokens[row] = rng.integers(0, 50_000, words) if fresh else tokens[rng.integers(max(0, row - 300), row)]
        tokens[row, rng.integers(0, words, rng.integers(0, 3))] = rng.integers(0, 50_000)
    text = [" ".join(map(word, row)) + f"\n{REQUEST}" for row in tokens.tolist()]
    answers = ["the first answer", "a second answer", "one more answer"]
    return records_table([f"s/f/{row}" for row in range(rows)], text, [answers[row % 3] for row in range(rows)])


def split(table: pa.Table, shards: int) -> list[pa.Table]:
    """The table in `shards` parts of about equal size."""
    borders = [len(table) * i // shards for i in range(shards + 1)]
    return [table.slice(a, b - a) for a, b in pairwise(borders)]


class Adjacency(NamedTuple):
    """All pairs of rows by the definition: whether they are adjacent, bool [rows, rows]; whether they share a band; and
    the Jaccard of each field, float64 [fields, rows, rows]."""

    adjacent: npt.NDArray[np.bool_]
    share_band: npt.NDArray[np.bool_]
    jaccard: npt.NDArray[np.float64]


def adjacency(table: pa.Table, settings: NearDuplicates, every_band: bool = False) -> Adjacency:
    """Pairs of rows by brute force. every_band: as if all rows shared a band.

    Fields are compared by sets in Python. A field without shingles is compared by its normalised text.
    """
    banding = banding_of(settings)
    rows = len(table)
    values, jaccards = [], []
    equal, same_words = np.ones((rows, rows), np.bool_), np.ones((rows, rows), np.bool_)
    for name in settings.thresholds:
        text = table[name].combine_chunks()
        shingles = shingle_hashes(text, banding.ngram, banding.unit)
        sets = [set(shingles.hash[a:b].tolist()) for a, b in pairwise(shingles.offsets.tolist())]
        often = {value for value, count in Counter(chain.from_iterable(sets)).items() if count >= MIN_ROWS}
        if name == "instruction":
            sets = [row - often for row in sets]
        digests, normal = invariants(text), np.array(normalise(text).to_pylist())
        bare = np.array([not row for row in sets])
        same = normal[:, None] == normal[None]
        marks, sentences = (value[:, None] == value[None] for value in (digests.marks, digests.sentences))
        if name != "instruction":
            sentences = np.ones((rows, rows), np.bool_)
        both_bare, one_bare = bare[:, None] & bare[None], bare[:, None] != bare[None]
        equal &= np.where(both_bare, same, marks & sentences & ~one_bare)
        same_words &= same
        flat = np.array([value for row in sets for value in sorted(row)], np.uint32)
        offsets = np.cumsum([0, *map(len, sets)])
        all_pairs = np.stack(np.divmod(np.arange(rows * rows), rows), axis=1)
        value = jaccard(Sets(flat, offsets), all_pairs).reshape(rows, rows)
        jaccards.append(np.where(both_bare & same, 1.0, value))
        values.append(
            signatures(Shingles(flat ^ np.uint32(FIELD_MASKS[name]), offsets), banding.num_perm, settings.seed).values
        )
    keys = band_keys(np.minimum.reduce(values), banding.bands, banding.rows)
    share_band = np.full((rows, rows), every_band)
    for band in range(banding.bands):
        share_band |= keys[:, band][:, None] == keys[:, band][None]
    above = np.ones((rows, rows), np.bool_)
    for value, threshold in zip(jaccards, settings.thresholds.values(), strict=True):
        above &= value >= threshold - 1e-9
    return Adjacency(equal & above & share_band | same_words, share_band, np.array(jaccards))

"""Records with many duplicates, finished steps that contain them, and an engine whose tasks fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.exact import digest128
from dedup.minhash import band_keys, signatures
from dedup.shingles import shingle_hashes
from dedup.similarity import jaccard, shingle_sets
from pipelines.ledger import storage
from pipelines.ledger.engine import ONE_CPU, Engine, LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.step import Resources
from pipelines.recipe import NearDuplicates
from pipelines.records import RECORD
from pipelines.steps.duplicates.near import banding_of
from tests.steps import records_of

Item = TypeVar("Item")
Result = TypeVar("Result")
FINEWEB = NearDuplicates(preset="fineweb")


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


def dropped(manifest: Manifest) -> dict[str, dict[str, object]]:
    """Id -> evidence of each dropped row."""
    tables = [storage.read_parquet(shard.path) for shard in manifest.dropped]
    return {row["id"]: json.loads(row["evidence"]) for table in tables for row in table.to_pylist()}


def kept_ids(manifest: Manifest) -> list[str]:
    return sorted(kept_rows(manifest)["id"].to_pylist())


def drifting(rows: int, seed: int = 0, words: int = 30) -> pa.Table:
    """Records whose texts are earlier ones with up to two words changed: chains, clusters, copies and unique texts."""
    rng = np.random.default_rng(seed)
    tokens = np.empty((rows, words), np.int64)
    for row in range(rows):
        fresh = row == 0 or rng.random() < 0.1
        tokens[row] = rng.integers(0, 50_000, words) if fresh else tokens[rng.integers(max(0, row - 300), row)]
        tokens[row, rng.integers(0, words, rng.integers(0, 3))] = rng.integers(0, 50_000)
    text = [" ".join(f"w{token}" for token in row) for row in tokens.tolist()]
    return records_table([f"s/f/{row}" for row in range(rows)], text, [f"answer {row % 3}" for row in range(rows)])


def split(table: pa.Table, shards: int) -> list[pa.Table]:
    """The table in `shards` parts of about equal size."""
    borders = [len(table) * i // shards for i in range(shards + 1)]
    return [table.slice(a, b - a) for a, b in pairwise(borders)]


def adjacency(table: pa.Table, settings: NearDuplicates) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which pairs of rows share a band, bool [rows, rows], and their Jaccard, float64 [rows, rows]."""
    banding = banding_of(settings)
    text = pc.binary_join_element_wise(*(table[name].combine_chunks() for name in settings.fields), "\n")
    shingles = shingle_hashes(text, banding.ngram, banding.unit)
    keys = band_keys(signatures(shingles, banding.num_perm, settings.seed).values, banding.bands, banding.rows)
    rows = len(table)
    share_band = np.zeros((rows, rows), np.bool_)
    for band in range(banding.bands):
        share_band |= keys[:, band][:, None] == keys[:, band][None]
    all_pairs = np.stack(np.divmod(np.arange(rows * rows), rows), axis=1)
    return share_band, jaccard(shingle_sets(shingles), all_pairs).reshape(rows, rows)

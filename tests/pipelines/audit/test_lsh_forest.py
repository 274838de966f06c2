"""The mapped forest answers exactly as datasketch's own forest of the same signatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasketch import LeanMinHash, MinHashLSHForest

from pipelines.audit.lsh_forest import PERMUTATIONS, SEED, TREES, MappedForest, Signatures, forest_table, minhash
from pipelines.ledger import storage


def signatures(rows: int, seed: int) -> Signatures:
    """Signatures in clusters: most share a part of their values with an earlier one, some all of them."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1 << 32, (rows, PERMUTATIONS), dtype=np.uint32)
    values[: rows // 10, :4] = [0, 1, 255, 256]  # a prefix that many share, whose order depends on the byte order
    for row in range(1, rows):
        shared = rng.random(PERMUTATIONS) < rng.choice([0, 0.5, 0.9, 1])
        values[row, shared] = values[rng.integers(0, row), shared]
    return values


def datasketch_forest(values: Signatures) -> MinHashLSHForest:
    forest = MinHashLSHForest(num_perm=PERMUTATIONS, l=TREES)
    for key, signature in enumerate(values):
        forest.add(key, minhash(signature))
    forest.index()
    return forest


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_queries_return_what_datasketch_returns(tmp_path: Path, k: int) -> None:
    values = signatures(1500, seed=0)
    path = str(tmp_path / "forest.arrow")
    storage.write_arrow(path, forest_table(np.arange(1500, dtype=np.uint32), values))
    mapped, expected = MappedForest(storage.map_arrow(path)), datasketch_forest(values)
    for signature in [*values[::50], *signatures(10, seed=1)]:
        query = minhash(signature)
        keys = mapped.query(query, k)
        assert keys == expected.query(query, k)
        shared = mapped.shared_values(np.array(keys, np.int64), signature)
        jaccard = [query.jaccard(LeanMinHash(seed=SEED, hashvalues=values[key], scheme="affine32")) for key in keys]
        assert (shared / PERMUTATIONS).tolist() == jaccard


def test_a_forest_without_rows_returns_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "forest.arrow")
    storage.write_arrow(path, forest_table(np.empty(0, np.uint32), np.empty((0, PERMUTATIONS), np.uint32)))
    forest = MappedForest(storage.map_arrow(path))
    assert forest.query(minhash(signatures(1, seed=0)[0]), 10) == []
    assert forest.shared_values(np.empty(0, np.int64), signatures(1, seed=0)[0]).tolist() == []

"""Which rows of a shard have signatures most like a query's? datasketch's LSH forest, memory-mapped from a file.

A `datasketch.MinHashLSHForest` keeps Python dicts of byte strings: measured with 16 trees, 2.4 KB of memory per row,
and 0.8 KB per row when pickled, which take 9.6 s to load for the 117,578 rows of the mini corpus. Here the same trees
are columns of an Arrow file, and a query reads only the pages that its binary searches touch. The search itself is
datasketch's: `MappedForest` gives `MinHashLSHForest.query` sequences and mappings that read from the file.

Disk: 4 bytes per permutation, 4 per tree and 4 for the row number, 580 bytes per row. Memory of a build: the same.
Memory of a query: the pages read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasketch import LeanMinHash, MinHashLSHForest

from dedup.columns import as_array

PERMUTATIONS = 128
"""Length of a signature. A Jaccard estimated from it has a standard error of at most 0.044."""

TREES = 16
"""Trees, each over its own 8 of the 128 values. Rows of Jaccard s agree in the first r values of some tree with the
probability 1 - (1 - s**r)**TREES. Measured with 8, 16 and 32 trees: 16 miss least (docs/decisions/0009)."""

SEED = 1
"""Of the permutations."""

VALUE_BYTES = 4
"""Of a value in a signature."""

Signatures = npt.NDArray[np.uint32]


def minhash(signature: npt.NDArray[np.uint32]) -> LeanMinHash:
    """datasketch's object for a signature uint32 [PERMUTATIONS]. The values are those of its scheme `affine32`."""
    return LeanMinHash(seed=SEED, hashvalues=signature, scheme="affine32")


def forest_table(rows: npt.NDArray[np.uint32], signatures: Signatures) -> pa.Table:
    """The forest of rows uint32 [n] with signatures uint32 [n, PERMUTATIONS].

    Columns: row; signature, the values as big-endian bytes, which is how datasketch compares them; tree_0 .. tree_15
    uint32, for each tree the indices of the rows in the order of its hash values.
    """
    data = pa.py_buffer(signatures.astype(">u4"))
    binary = pa.binary(VALUE_BYTES * PERMUTATIONS)
    columns = {
        "row": pa.array(rows, pa.uint32()),
        "signature": pa.FixedSizeBinaryArray.from_buffers(binary, len(rows), [None, data]),
    }
    for tree, (start, end) in enumerate(MinHashLSHForest(PERMUTATIONS, TREES).hashranges):
        # Big-endian bytes are ordered by the first value, then the second, and so on. lexsort takes the most important
        # key last. It is stable: equal rows keep their order, as in datasketch.
        order = np.lexsort(signatures[:, start:end].T[::-1])
        columns[f"tree_{tree}"] = pa.array(order.astype(np.uint32), pa.uint32())
    return pa.table(columns)


class MappedForest(MinHashLSHForest):  # type: ignore[misc]  # datasketch has no type hints
    """A forest that `forest_table` made. Its keys are indices into the table, below `len(rows)`.

    rows: uint32 [n], the shard's row for each key. signatures: big-endian uint32 [n, PERMUTATIONS].
    """

    def __init__(self, table: pa.Table) -> None:
        super().__init__(PERMUTATIONS, TREES)
        self.rows: npt.NDArray[np.uint32] = as_array(table["row"]).to_numpy()
        column = as_array(table["signature"])
        size = VALUE_BYTES * PERMUTATIONS
        data = memoryview(column.buffers()[1] or b"")[size * column.offset :][: size * len(column)]
        self.signatures = np.frombuffer(data, ">u4").reshape(-1, PERMUTATIONS)
        orders = [as_array(table[f"tree_{tree}"]).to_numpy() for tree in range(TREES)]
        self.sorted_hashtables = [
            _Tree(data, order, start, end) for order, (start, end) in zip(orders, self.hashranges, strict=True)
        ]
        self.hashtables = [_KeysOfEntry()] * TREES

    def shared_values(self, keys: npt.NDArray[np.int64], signature: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """How many values each of keys int64 [n] shares with a signature: int64 [n]. Divided by PERMUTATIONS, this is
        `MinHash.jaccard`."""
        shared: npt.NDArray[np.int64] = np.count_nonzero(self.signatures[keys] == signature, axis=1)
        return shared


class _Entry(bytes):
    """A hash value in a tree, and the key that has it."""

    key: int


class _Tree(Sequence[_Entry]):
    """The hash values of one tree, ascending: an element of `MinHashLSHForest.sorted_hashtables`.

    There, equal values are listed once. Here each key has an entry of its own, which needs no table of distinct values.
    The keys that a query returns are the same, in the same order.

    signatures: the bytes of all signatures. order: uint32 [n], the keys in the order of their values start:end.
    """

    def __init__(self, signatures: memoryview, order: npt.NDArray[np.uint32], start: int, end: int) -> None:
        self._signatures, self._order = signatures, order.data  # indexing a memoryview gives a plain int, faster
        self._start, self._end = VALUE_BYTES * start, VALUE_BYTES * end

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> _Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Entry]: ...
    def __getitem__(self, index: int | slice) -> _Entry | Sequence[_Entry]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        key = self._order[index]
        first = VALUE_BYTES * PERMUTATIONS * key
        entry = _Entry(self._signatures[first + self._start : first + self._end])
        entry.key = key
        return entry


class _KeysOfEntry:
    """The keys of an entry: an element of `MinHashLSHForest.hashtables`."""

    def __getitem__(self, entry: _Entry) -> tuple[int]:
        return (entry.key,)

"""Coverage: the share of each item that lies in n-grams of the corpus, over all of its texts together.

This is the measure of HRM-Text's contamination study (section 4.2) for n = 13 and 20. Most rules of
`filters.contamination.rules` ask instead what one text holds. Tokens are those of `dedup.shingles`, not of the model's
tokenizer. An item is its passage and its question. Answers and choices are not searched for by themselves and therefore
not counted.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.grams import gram_keys, prefix_hashes
from filters.contamination.index import CONTEXT, BenchmarkIndex

Unit = Literal["tokens", "grams"]

_I64 = npt.NDArray[np.int64]


class Coverage:
    """The shares of the items of an index that lie in n-grams of a corpus. Each length is looked up once."""

    def __init__(self, index: BenchmarkIndex, grams: pa.Table) -> None:
        """grams: GRAM_COUNTS over the whole corpus (`filters.contamination.grams`)."""
        self.index, self._grams = index, grams
        self._found = functools.cache(self._find)

    def shares(self, length: int, unit: Unit = "tokens") -> npt.NDArray[np.float64]:
        """The covered share of each item, float64 [I], 0 to 1: of its tokens, or with unit "grams" of its n-grams
        (PaLM).

        length: of the n-grams, in tokens. An item shorter than an n-gram has a share of 0, as in the study.
        """
        ix = self.index.arrays
        covered = np.zeros(len(ix.tokens) + 1, np.int64)
        covered[self._found(length)] = 1
        if unit == "tokens":
            # +1 where an n-gram begins and -1 behind its end; the running sum is positive inside.
            covered[length:] -= covered[:-length].copy()
            covered = (np.cumsum(covered) > 0).astype(np.int64)
        before = np.concatenate([[0], np.cumsum(covered[:-1])])
        # An item without a question or a passage has part -1, which is the empty part appended at the end.
        by_part = np.append(before[ix.part_start[1:]] - before[ix.part_start[:-1]], 0)
        possible = np.diff(ix.part_start) - (0 if unit == "tokens" else length - 1)
        sizes = np.append(np.maximum(possible, 0), 0)
        both = by_part[ix.question] + by_part[ix.passage]
        return np.asarray(both / np.maximum(sizes[ix.question] + sizes[ix.passage], 1), np.float64)

    @functools.cached_property
    def _prefix(self) -> npt.NDArray[np.uint64]:
        return prefix_hashes(self.index.arrays.tokens)

    @functools.cached_property
    def _room(self) -> _I64:
        """How many tokens there are from each token to the end of its part; 0 in parts that are not searched for."""
        ix = self.index.arrays
        room = ix.part_start[ix.part + 1] - np.arange(len(ix.tokens))
        return np.asarray(np.where(ix.kind[ix.part] != CONTEXT, room, 0))

    def _find(self, length: int) -> _I64:
        """The tokens where an n-gram begins that the corpus holds."""
        starts = np.flatnonzero(self._room >= length)
        keys = gram_keys(self._prefix, starts, length)
        held = self._grams.filter(pc.equal(self._grams["length"], length))["gram"].to_numpy()
        found = pl.Series(keys, dtype=pl.UInt64).is_in(pl.Series(held, dtype=pl.UInt64).implode())
        return np.asarray(starts[found.to_numpy()])

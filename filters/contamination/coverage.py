"""Coverage: the share of each item that lies in n-grams of the corpus, over all of its texts together.

This is the measure of HRM-Text's contamination study (section 4.2) for n = 13 and 20. Most rules of
`filters.contamination.rules` ask instead what one text holds. Tokens are those of `dedup.shingles`, not of the model's
tokenizer. An item is its passage and its question. Answers and choices are not searched for by themselves and therefore
not counted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from filters.contamination.grams import gram_keys, prefix_hashes
from filters.contamination.index import CONTEXT, BenchmarkIndex


def covered_shares(
    index: BenchmarkIndex,
    grams: npt.NDArray[np.uint64],
    length: int,
    unit: Literal["tokens", "grams"] = "tokens",
) -> npt.NDArray[np.float64]:
    """The covered share of each item, float64 [I], 0 to 1: of its tokens, or with unit "grams" of its n-grams (PaLM).

    grams: sorted keys of the n-grams of `length` tokens that the corpus holds (`filters.contamination.grams`). An item
    shorter than an n-gram has a share of 0, as in the study.
    """
    ix = index.arrays
    tokens = np.arange(len(ix.tokens))
    searched = ix.kind[ix.part] != CONTEXT
    starts = np.flatnonzero(searched & (tokens + length <= ix.part_start[ix.part + 1]))
    keys = gram_keys(prefix_hashes(ix.tokens), starts, length)
    place = np.searchsorted(grams, keys)
    in_corpus = np.zeros(len(starts), np.bool_)
    inside = place < len(grams)
    in_corpus[inside] = grams[place[inside]] == keys[inside]
    covered = np.zeros(len(ix.tokens) + 1, np.int64)
    covered[starts[in_corpus]] = 1
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

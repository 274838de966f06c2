"""How much of each item does the whole corpus hold? The share of its tokens inside n-grams that some text holds.

This is the measure of HRM-Text's contamination study (section 4.2), for n = 13 and 20: the union over all texts, while
the rules of `filters.contamination.rules` ask what one text holds. Tokens are ours, not those of the model's tokenizer. An
item is its passage and its question; answers and choices are not looked for by themselves, and so not counted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from filters.contamination.index import CONTEXT, Index, gram_keys, prefixes


def coverage(
    index: Index, found: npt.NDArray[np.uint64], length: int, of: Literal["tokens", "grams"] = "tokens"
) -> npt.NDArray[np.float64]:
    """The covered share of each item, float64 [I], 0 to 1: of its tokens, or, as PaLM counts, of its n-grams.

    found: sorted keys of the n-grams of that length that the corpus holds (`filters.contamination.scan.COUNTS`). An item
    shorter than n has none, as in the study.
    """
    ix = index.arrays
    tokens = np.arange(len(ix.tokens))
    scanned = ix.kind[ix.part] != CONTEXT
    at = np.flatnonzero(scanned & (tokens + length <= ix.part_start[ix.part + 1]))
    keys = gram_keys(prefixes(ix.tokens), at, length)
    place = np.searchsorted(found, keys)
    held = np.zeros(len(at), np.bool_)
    inside = place < len(found)
    held[inside] = found[place[inside]] == keys[inside]
    begins = np.zeros(len(ix.tokens) + 1, np.int64)
    begins[at[held]] = 1
    if of == "tokens":
        begins[length:] -= begins[:-length].copy()
        begins = (np.cumsum(begins) > 0).astype(np.int64)
    covered = np.concatenate([[0], np.cumsum(begins[:-1])])
    # Parts are numbered from 0; one more, empty, stands for the part that an item does not have (-1).
    by_part = np.append(covered[ix.part_start[1:]] - covered[ix.part_start[:-1]], 0)
    sizes = np.append(np.maximum(np.diff(ix.part_start) - (0 if of == "tokens" else length - 1), 0), 0)
    both = by_part[ix.question] + by_part[ix.passage]
    return np.asarray(both / np.maximum(sizes[ix.question] + sizes[ix.passage], 1), np.float64)

"""Items in other words: rows whose embedding lies near an item's. What n-grams cannot find, and what proves nothing.

Nearness is a hint to look at, not evidence: a problem with other numbers, or on the same subject, is near too. So a
find has a class of its own, `paraphrase`, which a recipe drops only where it says so. Vectors come from outside: this
room takes arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PARAPHRASE = "paraphrase"
"""The class of such a find."""

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts [n] -> unit vectors float32 [n, D]; what lies beyond a model's context does not count."""

BLOCK = 256
"""Texts compared at a time: 120 MB of similarities for two vectors of each of 60,000 items."""


def nearest_items(
    texts: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int32],
    bench: npt.NDArray[np.int32],
    threshold: float,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """For each text the nearest item of each benchmark, where its cosine is at least `threshold`.

    texts: unit vectors [N, D]. items: unit vectors [V, D], several an item, those of a benchmark side by side. owner:
    the item of each vector [V]. bench: the benchmark of each vector [V]. Returns text, item and cosine, by text, then
    benchmark.
    """
    edges = np.flatnonzero(np.diff(bench, prepend=-1, append=-1))
    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []
    for begin in range(0, len(texts), BLOCK):
        cosine = texts[begin : begin + BLOCK] @ items.T
        for low, high in itertools.pairwise(edges.tolist()):
            best = cosine[:, low:high].argmax(1) + low
            value = cosine[np.arange(len(cosine)), best]
            near = np.flatnonzero(value >= threshold)
            found.append((near + begin, owner[best[near]], value[near]))
    text = np.concatenate([part[0] for part in found] or [np.empty(0, np.int64)]).astype(np.int32)
    item = np.concatenate([part[1] for part in found] or [np.empty(0, np.int32)])
    value = np.concatenate([part[2] for part in found] or [np.empty(0, np.float32)])
    order = np.lexsort((item, text))
    return text[order], item[order], value[order]


def add_paraphrases(hits: pa.Table, near: pa.Table, sizes: npt.NDArray[np.int64]) -> pa.Table:
    """Judged HITS with the near items of the same rows behind them, by row; a pair that n-grams know stays as it is.

    hits: as `filters.contamination.rules.judge` returns them. near: columns row, item, similarity. sizes: bytes of each row's
    instruction and response [rows, 2]; the instruction as a whole is the span, the response where that is all there is.
    """
    known = {(row, item) for row, item in zip(hits["row"].to_pylist(), hits["item"].to_pylist(), strict=True)}
    fresh = [
        pair not in known for pair in zip(near["row"].to_pylist(), near["item"].to_pylist(), strict=True)
    ]  # a loop over finds, not over rows
    near = near.filter(pa.array(fresh, pa.bool_()))
    row = near["row"].combine_chunks()
    field = (sizes[row.to_numpy(), 0] == 0).astype(np.int64)
    given = {
        "row": row,
        "item": near["item"].combine_chunks(),
        "score": near["similarity"].combine_chunks(),
        "field": pa.array(field),
        "end": pa.array(sizes[row.to_numpy(), field].astype(np.int32)),
        "class": pa.array([PARAPHRASE] * len(row), pa.string()),
    }
    columns = []
    for column in hits.schema:
        if column.name in given:
            columns.append(given[column.name].cast(column.type))
        elif pa.types.is_list(column.type):
            columns.append(pa.array([[]] * len(row), column.type))
        else:
            columns.append(pa.array(np.zeros(len(row)), pa.float64()).cast(column.type))
    both = pa.concat_tables([hits, pa.table(columns, schema=hits.schema)])
    return both.take(pa.array(np.argsort(both["row"].to_numpy(), kind="stable")))

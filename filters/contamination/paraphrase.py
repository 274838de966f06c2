"""Paraphrases: rows whose embedding is close to an item's, which n-grams cannot find.

A high similarity is a hint, not evidence: a problem with other numbers, or on the same subject, is also close. At the
default similarity one of ten training problems of GSM8K is near one of its test items (MEASURED). Such hits therefore
have a class of their own, `paraphrase`, which a recipe must name to drop. Vectors come from the caller: this package
takes arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.columns import as_array

PARAPHRASE = "paraphrase"
"""The class of such a hit."""

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]


class SentenceModel(NamedTuple):
    """A model that gives sentence vectors. embed: a module-level function, since workers call it. weights: the digest
    of its weights, part of the key of steps that store vectors."""

    embed: Embed
    weights: str


"""Texts [n] to unit vectors float32 [n, D]. Text beyond the model's context is ignored."""


class Measured(NamedTuple):
    """What the model of `training.embedding` was measured to find at a least similarity; shares, 0 to 1.

    recall_mmlu, recall_humaneval: of items that LLM-Decontaminator's authors rephrased (293 and 147). wrong: of 1,000
    training problems of GSM8K, those near a test item of GSM8K. precision: of a corpus with as many rephrased items as
    such problems.
    """

    recall_mmlu: float
    recall_humaneval: float
    wrong: float
    precision: float

    def __str__(self) -> str:
        return (
            f"finds {self.recall_mmlu:.0%} of MMLU's and {self.recall_humaneval:.0%} of HumanEval's rephrased items; "
            f"{self.wrong:.1%} of GSM8K's training problems are wrongly near a test item; "
            f"precision {self.precision:.0%} if both are equally many"
        )


MEASURED = {
    0.6: Measured(0.993, 0.986, 0.805, 0.552),
    0.65: Measured(0.99, 0.946, 0.58, 0.627),
    0.7: Measured(0.976, 0.878, 0.308, 0.754),
    0.75: Measured(0.939, 0.701, 0.097, 0.899),
    0.8: Measured(0.884, 0.422, 0.015, 0.98),
    0.85: Measured(0.768, 0.143, 0.0, 1.0),
    0.9: Measured(0.584, 0.034, 0.0, 1.0),
}
"""By least similarity, from `docs/benchmarks/paraphrase-*.md`."""


def measured(similarity: float) -> Measured | None:
    """The measurement at the largest similarity of MEASURED that is not above `similarity`; None below all of them."""
    below = [one for one in MEASURED if one <= similarity + 1e-9]
    return MEASURED[max(below)] if below else None


TEXTS_PER_BLOCK = 256
"""Texts compared at a time: 120 MB of similarities for two vectors of each of 60,000 items."""


def nearest_items(
    texts: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int32],
    bench: npt.NDArray[np.int32],
    threshold: float,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """For each text, the nearest item of each benchmark if its cosine similarity is at least `threshold`.

    texts: unit vectors float32 [N, D]. items: unit vectors float32 [V, D], several for an item, those of a benchmark
    side by side. owner: the item of each vector, int32 [V]. bench: the benchmark of each vector, int32 [V]. Returns
    text, item and cosine similarity [n] each, ordered by text, then item.
    """
    edges = np.flatnonzero(np.diff(bench, prepend=-1, append=-1))
    blocks: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []
    for begin in range(0, len(texts), TEXTS_PER_BLOCK):
        cosine = texts[begin : begin + TEXTS_PER_BLOCK] @ items.T
        for low, high in itertools.pairwise(edges.tolist()):
            best = cosine[:, low:high].argmax(1) + low
            value = cosine[np.arange(len(cosine)), best]
            near = np.flatnonzero(value >= threshold)
            blocks.append((near + begin, owner[best[near]], value[near]))
    text = np.concatenate([block[0] for block in blocks] or [np.empty(0, np.int64)]).astype(np.int32)
    item = np.concatenate([block[1] for block in blocks] or [np.empty(0, np.int32)])
    value = np.concatenate([block[2] for block in blocks] or [np.empty(0, np.float32)])
    order = np.lexsort((item, text))
    return text[order], item[order], value[order]


def add_paraphrases(hits: pa.Table, near: pa.Table, field_bytes: npt.NDArray[np.int64]) -> pa.Table:
    """Classified hits and the near items of the same rows, ordered by row. Pairs already among the hits stay as they
    are.

    hits: as `filters.contamination.rules.classify_hits` returns them. near: columns row, item, similarity. field_bytes:
    sizes of each row's instruction and response, int64 [rows, 2]. The span of a paraphrase is the whole instruction, or
    the response where the instruction is empty.
    """
    known = {(row, item) for row, item in zip(hits["row"].to_pylist(), hits["item"].to_pylist(), strict=True)}
    # A loop over near items, which are few, not over rows.
    fresh = [pair not in known for pair in zip(near["row"].to_pylist(), near["item"].to_pylist(), strict=True)]
    near = near.filter(pa.array(fresh, pa.bool_()))
    row = as_array(near["row"])
    field = (field_bytes[row.to_numpy(), 0] == 0).astype(np.int64)
    given = {
        "row": row,
        "item": as_array(near["item"]),
        "score": as_array(near["similarity"]),
        "field": pa.array(field),
        "end": pa.array(field_bytes[row.to_numpy(), field].astype(np.int32)),
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

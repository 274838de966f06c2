"""What is the loss of each row under a model? Of the response given its instruction, and of the response alone.

Both are means over the response's tokens and its end, in nats. The response alone is measured as a response to an empty
instruction with the row's condition. Their difference is what the instruction tells of the response; its exponential is
IFD (instruction-following difficulty, Li et al. 2023, arXiv 2308.12032), the ratio of the two perplexities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from training.evaluation.perplexity import Likelihood, Passage, likelihoods
from training.inference.language_model import TokenModel

EMPTY = "empty response"

LOSSES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("loss", pa.float32()),
        pa.field("alone", pa.float32()),
        pa.field("problem", pa.string()),
    ]
)
"""The losses of a row. tokens: of the response, with its end. loss, alone: nats per token, given the instruction and
without it. problem: why a row was not measured; its losses are null."""


def row_losses(
    model: TokenModel,
    rows: pa.Table,
    batch: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """The losses of records [rows] as LOSSES, in their order.

    rows: id, source, condition, instruction, response. batch: most sequences in a forward pass. on_progress: called
    with (rows, response tokens) measured.

    Raises:
        WinnowError: if the model does not know a condition tag.
    """
    records = rows.select(["id", "condition", "instruction", "response"]).to_pylist()
    passages = [
        Passage(row["id"], row["condition"], instruction, row["response"], True)
        for row in records
        if row["response"]
        for instruction in (row["instruction"], "")
    ]

    def move(done: int, tokens: int) -> None:
        if on_progress:
            on_progress(done // 2, tokens)

    measured = iter(list(likelihoods(model, passages, move, batch)))
    columns: dict[str, list[object]] = {name: [] for name in ("tokens", "loss", "alone", "problem")}
    for row in records:
        given, alone = (next(measured), next(measured)) if row["response"] else (EMPTY, EMPTY)
        told = next((one for one in (given, alone) if isinstance(one, str)), None)
        both = [one for one in (given, alone) if isinstance(one, Likelihood)]
        values = [np.float32(one.nats / one.tokens) for one in both] if told is None else [None, None]
        tokens = both[0].tokens if told is None else None
        for name, value in zip(columns, (tokens, *values, told), strict=True):
            columns[name].append(value)
    arrays = [pa.array(columns[name], LOSSES.field(name).type) for name in columns]
    names = [rows[name].cast(pa.string()).combine_chunks() for name in ("id", "source")]
    return pa.table([*names, *arrays], schema=LOSSES)

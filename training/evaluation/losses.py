"""What is the loss of each row under a model? Of the response given its instruction, and of the response alone.

Both are means over the response's tokens and its end, in nats. The response alone is measured as a response to an empty
instruction with the row's condition. Their difference is what the instruction tells of the response; its exponential is
IFD (instruction-following difficulty, Li et al. 2023, arXiv 2308.12032), the ratio of the two perplexities.

On request the response is also measured after the instructions of other rows of its source, whose responses differ.
That is what noise is told from (`hard_examples.py`). Beside a loss stands its margin: by how much the model finds other
tokens likelier. A response can be improbable because the model knows nothing, or because it knows something else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.evaluation.perplexity import Likelihood, Passage, likelihoods
from training.inference.language_model import TokenModel

EMPTY = "empty response"

OTHERS = ("other_1", "other_2", "other_3")
"""Columns of the losses after instructions of other rows."""

TRIES = 8
"""Rows that are tried for one whose response differs."""

LOSSES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("loss", pa.float32()),
        pa.field("alone", pa.float32()),
        *(pa.field(name, pa.float32()) for name in OTHERS),
        *(pa.field(name, pa.float32()) for name in ("margin", "worst", "other_margin", "other_worst")),
        pa.field("problem", pa.string()),
    ]
)
"""The losses of a row. tokens: of the response, with its end. loss, alone, other_1 ...: nats per token, given the
instruction, without it, and given those of other rows; the last are null where they were not asked for, or the row has
no others. margin: nats per token by which the likeliest tokens are above those of the response, given the instruction.
worst: nats, the margin of the token at which it is largest. other_margin, other_worst: the same given the last of
OTHERS. problem: why a row was not measured; its losses are null."""

_MARGINS = {"loss": "", OTHERS[-1]: "other_"}
"""Losses beside which stand margins -> how their names begin."""


def row_losses(
    model: TokenModel,
    rows: pa.Table,
    batch: int | None = None,
    others: bool = False,
    on_progress: Callable[[float, int], None] | None = None,
) -> pa.Table:
    """The losses of records [rows] as LOSSES, in their order.

    rows: id, source, condition, instruction, response. batch: most sequences in a forward pass. others: measure the
    responses after instructions of other rows among these as well. on_progress: called with the share of the work that
    is done, and the response tokens measured.

    Raises:
        WinnowError: if the model does not know a condition tag.
    """
    records = rows.select(["id", "condition", "instruction", "response"]).to_pylist()
    asked: list[dict[str, str]] = [{"loss": row["instruction"], "alone": ""} for row in records]
    if others:
        for name, partners in zip(OTHERS, other_rows(rows), strict=True):
            for row, partner in enumerate(partners.tolist()):
                if partner >= 0:
                    asked[row][name] = records[partner]["instruction"]
    passages = [
        Passage(row["id"], row["condition"], instruction, row["response"], True)
        for row, instructions in zip(records, asked, strict=True)
        if row["response"]
        for instruction in instructions.values()
    ]

    def move(done: int, tokens: int) -> None:
        if on_progress:
            on_progress(done / len(passages), tokens)

    measured = iter(list(likelihoods(model, passages, move, batch)))
    columns: dict[str, list[object]] = {name: [] for name in LOSSES.names if name not in ("id", "source")}
    for row, instructions in zip(records, asked, strict=True):
        found = {name: next(measured) if row["response"] else EMPTY for name in instructions}
        own, alone = found["loss"], found["alone"]
        problem = next((one for one in (own, alone) if isinstance(one, str)), None)
        columns["problem"].append(problem)
        columns["tokens"].append(own.tokens if isinstance(own, Likelihood) and not problem else None)
        for name in ("loss", "alone", *OTHERS):
            given = found.get(name)
            one = given if isinstance(given, Likelihood) and not problem else None
            columns[name].append(None if one is None else np.float32(one.nats / one.tokens))
            if name in _MARGINS:
                columns[f"{_MARGINS[name]}margin"].append(None if one is None else np.float32(one.margin / one.tokens))
                columns[f"{_MARGINS[name]}worst"].append(None if one is None else np.float32(one.worst))
    arrays = [pa.array(values, LOSSES.field(name).type) for name, values in columns.items()]
    texts = [rows[name].cast(pa.string()).combine_chunks() for name in ("id", "source")]
    return pa.table([*texts, *arrays], schema=LOSSES)


def other_rows(rows: pa.Table) -> list[npt.NDArray[np.int64]]:
    """For each of OTHERS another row of the same source with another response, for each row [rows]; -1 where none was
    found.

    Neighbours in a file are often alike, so the others are a quarter, half and three quarters of the source away, or
    the first rows behind whose responses differ. Where two rows have the same response, an exchange of their
    instructions would change nothing.
    """
    source = np.asarray(rows["source"].to_pylist(), object)
    response = np.asarray(pc.dictionary_encode(pc.fill_null(rows["response"].combine_chunks(), "")).indices)
    result = [np.full(len(source), -1, np.int64) for _ in OTHERS]
    for name in sorted(set(source)):
        own = np.flatnonzero(source == name)
        if len(own) <= len(OTHERS):
            continue
        for place, partners in enumerate(result, 1):
            for further in range(TRIES):
                waiting = partners[own] < 0
                candidates = np.roll(own, -(len(own) * place // (len(OTHERS) + 1) + further))
                differs = response[candidates] != response[own]
                partners[own[waiting & differs]] = candidates[waiting & differs]
    return result


def response_tokens(losses: pa.Table) -> int:
    """Response tokens that were measured for a table of LOSSES, each as often as it was measured."""
    tokens = losses["tokens"]
    each = (pc.if_else(pc.is_valid(losses[name]), tokens, 0) for name in ("loss", "alone", *OTHERS))
    return sum(int(pc.sum(column).as_py() or 0) for column in each)

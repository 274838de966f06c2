"""Answers of models to school mathematics, with their thinking in the text (`<think>`, `<answer>`), `synth,cot`.

`code` is the list of a row's answers. Each answer is a record, those after the first as variants `answer1`, `answer2`
... The stage `strip_thinking` removes the thinking. The questions are TEST items of GSM8K, ASDiv, SVAMP and TabMWP: use
the rows to exercise the pipeline, and train on them only with decontamination on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import interleave, raw
from pipelines.formats.read import read
from pipelines.sources.source import Source


def read_answers(path: str, question: str, answers: str) -> Iterator[pa.Table]:
    """RAW rows of a file with several answers per row, one record each; a row without answers has a null response."""
    columns = pa.schema([pa.field(question, pa.string()), pa.field(answers, pa.list_(pa.string()))])
    for rows in read(path, columns):
        lists = rows[answers].combine_chunks()
        most = pc.max(pc.list_value_length(lists)).as_py() or 0
        tables = []
        for index in range(max(most, 1)):
            has_answer = pc.fill_null(pc.greater(pc.list_value_length(lists), index), False)
            part = rows if index == 0 else rows.filter(has_answer)
            response = _nth(part[answers].combine_chunks(), index)
            tables.append(raw(part, part[question], response, "synth,cot", "" if index == 0 else f"answer{index}"))
        yield interleave(tables)


def _nth(lists: pa.ListArray, index: int) -> pa.Array:
    """The element at `index` of each list; null if the list is null or shorter."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    positions = pc.if_else(pc.greater(lengths, index), pc.add(lists.offsets.slice(0, len(lists)), index), None)
    return lists.values.take(positions)


def _read(path: str) -> Iterator[pa.Table]:
    return read_answers(path, "question", "code")


REASONING_GYM_EVAL = Source(
    name="reasoning_gym_eval",
    title="Reasoning Gym evaluation: traces on GSM8K, ASDiv, SVAMP and TabMWP test items",
    home="https://github.com/open-thought/reasoning-gym-eval",
    revision="unknown",
    licence="Apache-2.0",
    conditions=("synth,cot",),
    overlaps=("gsm8k/test",),
    read=_read,
)

"""Answers of models to school mathematics, with their thinking inline (`<think>`, `<answer>`), `synth,cot`.

`code` is the list of a row's answers; each gives a record, those after the first as variants `answer1`, `answer2` ...
Thinking is left for `strip_thinking`. The questions are TEST items of GSM8K, ASDiv, SVAMP and TabMWP: use the rows to
exercise the pipeline, and train on them only with decontamination on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import interleave, raw
from pipelines.formats.reading import read
from pipelines.sources.source import Source


def read_answers(path: str, question: str, answers: str) -> Iterator[pa.Table]:
    """RAW rows of a file with several answers to a row: one record per answer. A row without any is `null_response`."""
    columns = pa.schema([pa.field(question, pa.string()), pa.field(answers, pa.list_(pa.string()))])
    for rows in read(path, columns):
        lists = rows[answers].combine_chunks()
        most = pc.max(pc.list_value_length(lists)).as_py() or 0
        tables = []
        for index in range(max(most, 1)):
            there = pc.fill_null(pc.greater(pc.list_value_length(lists), index), False)
            chosen = rows if index == 0 else rows.filter(there)
            answer = _nth(chosen[answers].combine_chunks(), index)
            tables.append(raw(chosen, chosen[question], answer, "synth,cot", "" if index == 0 else f"answer{index}"))
        yield interleave(tables)


def _nth(lists: pa.ListArray, index: int) -> pa.Array:
    """The element at `index` of each list, null where the list is null or shorter."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    at = pc.if_else(pc.greater(lengths, index), pc.add(lists.offsets.slice(0, len(lists)), index), None)
    return lists.values.take(at)


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

"""FLAN's chain-of-thought tasks: question, answer and rationale separated by tabs, one file per task, `cot`.

Rationales do not contain the answer. The response is the rationale and a fixed sentence with the answer; FLAN draws
that sentence from templates. A newline in a field is written as a backslash and an n.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.delimited import Dialect
from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source

_NAMES = ("question", "answer", "rationale")


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns(*_NAMES), dialect=Dialect("\t", quoted=False, names=_NAMES)):
        question, answer, rationale = (pc.replace_substring(rows[name], r"\n", "\n") for name in _NAMES)
        response = pc.binary_join_element_wise(pc.utf8_rtrim_whitespace(rationale), "\nThe answer is ", answer, ".", "")
        yield raw(rows, pc.utf8_rtrim_whitespace(question), response, "cot")


FLAN_COT = Source(
    name="flan_cot",
    title="FLAN v2, chain-of-thought tasks (AQuA, CREAK, ECQA, GSM8K, QASC, Sense-Making, StrategyQA)",
    home="https://github.com/google-research/FLAN",
    revision="unknown",
    licence="Apache-2.0",
    generators=(),
    conditions=("cot",),
    overlaps=("gsm8k/train",),
    read=_read,
)

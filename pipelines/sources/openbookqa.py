"""OpenBookQA train and validation, `direct`. As in Platypus, the instruction has the fact that answers the question.

Files in the wording of the LLM-Adapters repository, which have no facts, are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError
from pipelines.formats.pairs import options, raw
from pipelines.formats.read import read
from pipelines.sources.llm_adapters import read_adapters
from pipelines.sources.source import HUB, Source, on_hub

_TEXTS = pa.list_(pa.string())
_COLUMNS = pa.schema(
    [
        pa.field("question_stem", pa.string()),
        pa.field("choices", pa.struct([pa.field("text", _TEXTS), pa.field("label", _TEXTS)])),
        pa.field("answerKey", pa.string()),
        pa.field("fact1", pa.string()),
    ]
)
_REQUEST = "Based on the given fact, which of the following option is the correct answer to the question?\n\n"


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, _COLUMNS, optional=_COLUMNS.names):
        if not rows["fault"].null_count or rows["question_stem"].null_count < rows.num_rows:
            choices = options(pc.struct_field(rows["choices"], 0))
            instruction = pc.binary_join_element_wise(
                _REQUEST, rows["question_stem"], " \n", choices, "\n\nFact: ", rows["fact1"], ""
            )
            yield raw(rows, instruction, rows["answerKey"], "direct")
            continue
        try:
            yield from read_adapters(path)
        except InputError as error:
            raise InputError(f"{error}, nor `question_stem`, `choices`, `answerKey` and `fact1`") from error
        return


OPENBOOKQA = Source(
    name="openbookqa",
    title="OpenBookQA with facts, train and validation (Platypus)",
    home=HUB + "allenai/openbookqa",
    revision="main",
    licence="Apache-2.0",
    generators=(),
    conditions=("direct",),
    overlaps=("openbookqa/train", "openbookqa/validation"),
    path=on_hub("allenai/openbookqa", "additional/train-*.parquet", "additional/validation-*.parquet"),
    rows=5_457,
    part="mathematics",
    read=_read,
)

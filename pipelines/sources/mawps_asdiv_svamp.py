"""MAWPS and ASDiv as used by the authors of SVAMP: word problems with placeholders for numbers (`number0`), `direct`.

The placeholders are replaced by the values in `Numbers`. `56.0` is written as `56`, in questions and in answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("Question", "Numbers", "Answer")):
        frame = pl.DataFrame(
            {name: pl.Series(rows[name], dtype=pl.String) for name in ("Question", "Numbers", "Answer")}
        )
        numbers = frame["Numbers"].str.split(" ")
        question = pl.col("Question")
        # From the last to the first, so that `number1` does not match the beginning of `number10`.
        for index in reversed(range(max(numbers.list.len().to_list(), default=0))):
            number = pl.lit(numbers).list.get(index, null_on_oob=True).str.replace(r"\.0$", "")
            filled = question.str.replace_all(f"number{index}", number, literal=True)
            question = pl.when(number.is_null()).then(question).otherwise(filled)
        filled_in = frame.select(question.alias("question"), pl.col("Answer").str.replace(r"\.0$", "").alias("answer"))
        instruction, response = (filled_in[name].to_arrow().cast(pa.string()) for name in ("question", "answer"))
        yield raw(rows, instruction, response, "direct")


MAWPS_ASDIV_SVAMP = Source(
    name="mawps_asdiv_svamp",
    title="MAWPS and ASDiv, the train set of SVAMP's experiments",
    home="https://github.com/arkilpatel/SVAMP",
    revision="unknown",
    licence="MIT",
    generators=(),
    conditions=("direct",),
    read=_read,
)

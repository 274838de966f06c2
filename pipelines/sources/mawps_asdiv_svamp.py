"""MAWPS and ASDiv as SVAMP's authors train on them: word problems whose numbers are placeholders (`number0`), `direct`.

The placeholders are filled in from `Numbers`; `56.0` is written as `56`, in questions and answers.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from pipelines.formats.pairs import raw
from pipelines.formats.reading import read, text
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text("Question", "Numbers", "Answer")):
        frame = pl.DataFrame(
            {name: pl.Series(rows[name], dtype=pl.String) for name in ("Question", "Numbers", "Answer")}
        )
        numbers = frame["Numbers"].str.split(" ")
        question = pl.col("Question")
        # From the last to the first, so that `number1` is not taken for the beginning of `number10`.
        for index in reversed(range(max(numbers.list.len().to_list(), default=0))):
            number = pl.lit(numbers).list.get(index, null_on_oob=True).str.replace(r"\.0$", "")
            filled = question.str.replace_all(f"number{index}", number, literal=True)
            question = pl.when(number.is_null()).then(question).otherwise(filled)
        done = frame.select(question.alias("question"), pl.col("Answer").str.replace(r"\.0$", "").alias("answer"))
        filled_in, answer = (done[name].to_arrow().cast(pa.string()) for name in ("question", "answer"))
        yield raw(rows, filled_in, answer, "direct")


MAWPS_ASDIV_SVAMP = Source(
    name="mawps_asdiv_svamp",
    title="MAWPS and ASDiv, the train set of SVAMP's experiments",
    home="https://github.com/arkilpatel/SVAMP",
    revision="unknown",
    licence="MIT",
    conditions=("direct",),
    read=_read,
)

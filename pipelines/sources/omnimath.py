"""Omni-MATH: olympiad problems, each with its solution (`cot`) and its answer (`direct`).

It is an evaluation set, and HRM-Text trains on its only split. A model trained on it cannot be scored on it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import interleave, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("problem", "solution", "answer")):
        solved = raw(rows, rows["problem"], pc.utf8_trim_whitespace(rows["solution"]), "cot")
        answered = raw(rows, rows["problem"], pc.utf8_trim_whitespace(rows["answer"]), "direct", "direct")
        yield interleave([solved, answered])


OMNIMATH = Source(
    name="omnimath",
    title="Omni-MATH, its test split",
    home=HUB + "KbsdJames/Omni-MATH",
    revision="main",
    licence="Apache-2.0",
    generators=(),
    conditions=("cot", "direct"),
    overlaps=("omni_math/test",),
    path=on_hub("KbsdJames/Omni-MATH", "test.jsonl"),
    rows=4_428,
    bytes=7_500_000,
    part="mathematics",
    read=_read,
)

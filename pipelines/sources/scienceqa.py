"""ScienceQA, questions without pictures: the explained answer (`cot`) and the option's letter (`direct`). All splits.

A question that has a lecture is asked with it, in other words for the explained answer than for the letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, interleave, letter, lettered, raw
from pipelines.formats.reading import read
from pipelines.sources.source import HUB, Source, on_hub

_COLUMNS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("question", "lecture", "solution", "answer")),
        pa.field("choices", pa.list_(pa.string())),
    ]
)
_EXPLAIN = "Solve the following question using the information provided in the lecture.\n\n"
_CHOOSE = "Choose the correct option letter for the following question based on the information from the lecture.\n\n"


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, _COLUMNS):
        question, lecture, solution = (
            pc.utf8_trim_whitespace(rows[name]) for name in ("question", "lecture", "solution")
        )
        bare = pc.binary_join_element_wise(question, "\nOptions:\n", lettered(rows["choices"]), "")
        chosen = letter(rows["answer"])
        explained = raw(
            rows,
            _with_lecture(_EXPLAIN, bare, lecture),
            pc.binary_join_element_wise(solution, "\n\nAnswer: ", chosen, ""),
            "cot",
        )
        solved = pc.not_equal(pc.fill_null(solution, ""), "")
        explained = exclude(explained, ("no_solution", pc.invert(solved)))
        yield interleave([explained, raw(rows, _with_lecture(_CHOOSE, bare, lecture), chosen, "direct", "direct")])


def _with_lecture(request: str, bare: Any, lecture: Any) -> Any:
    there = pc.not_equal(pc.fill_null(lecture, ""), "")
    return pc.if_else(there, pc.binary_join_element_wise(request, bare, "\n\nLecture: ", lecture, ""), bare)


SCIENCEQA = Source(
    name="scienceqa",
    title="ScienceQA, text only, all splits (Platypus)",
    home=HUB + "metaeval/ScienceQA_text_only",
    revision="main",
    licence="CC-BY-NC-SA-4.0",
    conditions=("cot", "direct"),
    overlaps=("scienceqa/train", "scienceqa/validation", "scienceqa/test"),
    path=on_hub("metaeval/ScienceQA_text_only", "data/*.parquet"),
    part="mathematics",
    read=_read,
)

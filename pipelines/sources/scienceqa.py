"""ScienceQA, questions without pictures: the explained answer (`cot`) and the option's letter (`direct`); all splits.

If a question has a lecture, the instruction contains it, with one request for the explained answer and another for the
letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, interleave, option_letter, options, raw
from pipelines.formats.read import read
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
        plain = pc.binary_join_element_wise(question, "\nOptions:\n", options(rows["choices"]), "")
        answer = option_letter(rows["answer"])
        explained = raw(
            rows,
            _with_lecture(_EXPLAIN, plain, lecture),
            pc.binary_join_element_wise(solution, "\n\nAnswer: ", answer, ""),
            "cot",
        )
        solved = pc.not_equal(pc.fill_null(solution, ""), "")
        explained = exclude(explained, ("no_solution", pc.invert(solved)))
        yield interleave([explained, raw(rows, _with_lecture(_CHOOSE, plain, lecture), answer, "direct", "direct")])


def _with_lecture(request: str, question: Any, lecture: Any) -> Any:
    has_lecture = pc.not_equal(pc.fill_null(lecture, ""), "")
    joined = pc.binary_join_element_wise(request, question, "\n\nLecture: ", lecture, "")
    return pc.if_else(has_lecture, joined, question)


SCIENCEQA = Source(
    name="scienceqa",
    title="ScienceQA, text only, all splits (Platypus)",
    home=HUB + "metaeval/ScienceQA_text_only",
    revision="main",
    licence="CC-BY-NC-SA-4.0",
    generators=(),
    conditions=("cot", "direct"),
    overlaps=("scienceqa/train", "scienceqa/validation", "scienceqa/test"),
    path=on_hub("metaeval/ScienceQA_text_only", "data/*.parquet"),
    part="mathematics",
    read=_read,
)

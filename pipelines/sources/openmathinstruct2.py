"""OpenMathInstruct-2: solutions by a model, `synth,cot`, and the answers of new problems, `synth,direct`.

Answers of problems from MATH or GSM8K are left out: those sets contain them. Solutions and answers are sampled
separately (TASK).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, interleave, raw, with_task
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("problem", "generated_solution", "expected_answer", "problem_source")):
        solved = raw(rows, rows["problem"], rows["generated_solution"], "synth,cot")
        answered = raw(rows, rows["problem"], rows["expected_answer"], "synth,direct", "direct")
        original = pc.is_in(rows["problem_source"], pa.array(["math", "gsm8k"]))
        answered = exclude(answered, ("original_problem", original))
        yield interleave([with_task(solved, "cot"), with_task(answered, "direct")])


OPENMATHINSTRUCT2 = Source(
    name="openmathinstruct2",
    title="OpenMathInstruct-2",
    home=HUB + "nvidia/OpenMathInstruct-2",
    revision="main",
    licence="CC-BY-4.0",
    generators=("Llama-3.1-405B-Instruct",),
    conditions=("synth,cot", "synth,direct"),
    overlaps=("gsm8k/train", "math/train"),
    path=on_hub("nvidia/OpenMathInstruct-2", "data/train-*.parquet"),
    part="mathematics",
    read=_read,
)

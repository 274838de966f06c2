"""GSM8K train: grade-school word problems, as in HRM-Text: `direct`, with only the final number as response.

The worked solutions, with calculator marks such as `<<48/2=24>>`, are not used. FLAN's chain-of-thought mixture
(`flan_cot`) contains them without marks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("question", "answer")):
        yield raw(rows, rows["question"], final_number(rows["answer"]), "direct")


def final_number(answer: pa.ChunkedArray) -> pa.ChunkedArray:
    """The number after `####` without thousands separators, as in the data set's own scorer; null if there is none."""
    final = pc.struct_field(pc.extract_regex(answer, r"(?s)####\s*(?P<final>[^\n]*?)\s*$"), "final")
    return pc.replace_substring(final, ",", "")


GSM8K = Source(
    name="gsm8k",
    title="GSM8K, train split",
    home=HUB + "openai/gsm8k",
    revision="main",
    licence="MIT",
    generators=(),
    conditions=("direct",),
    overlaps=("gsm8k/train",),
    path=on_hub("openai/gsm8k", "main/train-*.parquet"),
    rows=7_473,
    part="mathematics",
    read=_read,
)

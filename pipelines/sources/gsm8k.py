"""GSM8K train: grade-school word problems. As HRM-Text trains on it: `direct`, with the final number alone.

The worked solutions, with their `<<48/2=24>>` calculator marks, are left out; FLAN's chain-of-thought mixture
(`flan_cot`) holds them once more, without marks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import raw
from pipelines.formats.reading import read, text
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text("question", "answer")):
        yield raw(rows, rows["question"], final_number(rows["answer"]), "direct")


def final_number(answer: pa.ChunkedArray) -> pa.ChunkedArray:
    """What stands behind `####`, without thousands separators, as the data set's own scorer reads it; else null."""
    final = pc.struct_field(pc.extract_regex(answer, r"(?s)####\s*(?P<final>[^\n]*?)\s*$"), "final")
    return pc.replace_substring(final, ",", "")


GSM8K = Source(
    name="gsm8k",
    title="GSM8K, train split",
    home=HUB + "openai/gsm8k",
    revision="main",
    licence="MIT",
    conditions=("direct",),
    overlaps=("gsm8k/train",),
    path=on_hub("openai/gsm8k", "main/train-*.parquet"),
    rows=7_473,
    part="mathematics",
    read=_read,
)

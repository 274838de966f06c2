"""AceReason-1.1, mathematics only: answers of R1 with their thinking, `synth,cot`.

Thinking is kept here; the stage `strip_thinking` removes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, raw, with_task
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("category", "input", "output")):
        not_mathematics = pc.not_equal(pc.fill_null(rows["category"], ""), "math")
        yield with_task(
            exclude(raw(rows, rows["input"], rows["output"], "synth,cot"), ("not_mathematics", not_mathematics)), "all"
        )


ACEREASON = Source(
    name="acereason",
    title="AceReason-1.1-SFT, mathematics",
    home=HUB + "nvidia/AceReason-1.1-SFT",
    revision="main",
    licence="CC-BY-4.0",
    generators=("DeepSeek-R1",),
    conditions=("synth,cot",),
    overlaps=("gsm8k/train", "math/train"),
    path=on_hub("nvidia/AceReason-1.1-SFT", "**/*.parquet"),
    part="thinking",
    read=_read,
)

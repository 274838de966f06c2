"""AceReason-1.1: R1's answers with their thinking, of mathematics alone, `synth,cot`. Thinking is left for
`strip_thinking`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, raw, with_task
from pipelines.formats.reading import read, text
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text("category", "input", "output")):
        other = pc.not_equal(pc.fill_null(rows["category"], ""), "math")
        yield with_task(
            exclude(raw(rows, rows["input"], rows["output"], "synth,cot"), ("not_mathematics", other)), "all"
        )


ACEREASON = Source(
    name="acereason",
    title="AceReason-1.1-SFT, mathematics",
    home=HUB + "nvidia/AceReason-1.1-SFT",
    revision="main",
    licence="CC-BY-4.0",
    conditions=("synth,cot",),
    overlaps=("gsm8k/train", "math/train"),
    path=on_hub("nvidia/AceReason-1.1-SFT", "**/*.parquet"),
    part="thinking",
    read=_read,
)

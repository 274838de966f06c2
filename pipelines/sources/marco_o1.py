"""Marco-o1's example traces, `<Thought>` and then `<Output>`, `synth,cot`. `strip_thinking` removes the thinking."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("instruction", "response")):
        yield raw(rows, rows["instruction"], rows["response"], "synth,cot")


MARCO_O1 = Source(
    name="marco_o1",
    title="Marco-o1 chain-of-thought examples",
    home="https://github.com/AIDC-AI/Marco-o1",
    revision="unknown",
    licence="Apache-2.0",
    conditions=("synth,cot",),
    read=_read,
)

"""A sample of P3, the prompts that T0 was trained on, `direct`. `<|endoftext|>` after a completion is removed."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("prompt", "completion")):
        completion = rows["completion"]
        marked = pc.fill_null(pc.ends_with(completion, "<|endoftext|>"), False)
        trimmed = pc.binary_slice(completion.cast(pa.binary()), 0, -len("<|endoftext|>")).cast(pa.string())
        yield raw(rows, rows["prompt"], pc.if_else(marked, trimmed, completion), "direct")


T0_P3 = Source(
    name="t0_p3",
    title="P3, T0's training mixture, 55,185 prompts over 294 templates",
    home="https://github.com/yizhongw/self-instruct",
    revision="unknown",
    licence="Apache-2.0",
    conditions=("direct",),
    overlaps=("siqa/train",),
    read=_read,
)

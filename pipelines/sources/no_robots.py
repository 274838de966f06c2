"""No Robots: instructions and answers written by people, `cot`. The first exchange of each conversation is used."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import read_pairs
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    return read_pairs(path, {"messages": "messages"}, "cot")


NO_ROBOTS = Source(
    name="no_robots",
    title="No Robots, train and test",
    home=HUB + "HuggingFaceH4/no_robots",
    revision="main",
    licence="CC-BY-NC-4.0",
    generators=(),
    conditions=("cot",),
    path=on_hub("HuggingFaceH4/no_robots", "data/*.parquet"),
    rows=10_000,
    bytes=18_891_461,
    part="general",
    read=_read,
)

"""DROP dev: questions about counts and comparisons in a passage. `answer` is the accepted answers, joined by `|`."""

from __future__ import annotations

import re

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.errors import InputError
from pipelines.formats.read import text_columns

_CONTEXT = re.compile(r"Passage: (?P<passage>.*)\nQuestion: (?P<question>.*)\nAnswer:", re.DOTALL)


def _read(paths: list[str]) -> pa.Table:
    return concat([table("drop", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    items = []
    for number, row in file_rows(path, text_columns("context", "ref_text")):
        match = _CONTEXT.fullmatch(row["context"])
        if match is None:
            raise InputError(f"{path}: row {number}: the context is not `Passage: ... Question: ... Answer:`")
        items.append((number, Item(match["question"], row["ref_text"], passage=match["passage"])))
    return items


DROP = Benchmark(
    name="drop",
    title="DROP, dev split",
    home="https://github.com/OpenBMB/Eurus",
    revision="unknown",
    licence="CC-BY-SA-4.0",
    read=_read,
    files=("drop_*_dev.jsonl*",),
)

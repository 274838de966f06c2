"""DROP dev: questions of counting and comparing over a passage. Accepted answers stand in `answer` between `|`."""

from __future__ import annotations

import re

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, file_rows, table, together
from pipelines.errors import InputError
from pipelines.formats.reading import text

_CONTEXT = re.compile(r"Passage: (?P<passage>.*)\nQuestion: (?P<question>.*)\nAnswer:", re.DOTALL)


def _read(paths: list[str]) -> pa.Table:
    return together([table("drop", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    items = []
    for number, row in file_rows(path, text("context", "ref_text")):
        found = _CONTEXT.fullmatch(row["context"])
        if found is None:
            raise InputError(f"{path}: row {number}: the context is not `Passage: ... Question: ... Answer:`")
        items.append((number, Item(found["question"], row["ref_text"], passage=found["passage"])))
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

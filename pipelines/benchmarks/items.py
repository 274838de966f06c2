"""Evaluation items from files: what the benchmarks' readers share, and the reader for items that anyone writes down.

Python loops over rows, here and in the readers beside it: an evaluation set has thousands of rows, not millions. A row
that cannot be read is an error, not a dropped row, since a score over the rest would be a score on another set.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.errors import InputError
from pipelines.formats.reading import Layout, read
from pipelines.records import ITEM


class Item(NamedTuple):
    """One item, before it has an id. answer: the text of the right choice where there are choices."""

    question: str
    answer: str
    choices: Sequence[str] = ()
    passage: str = ""


class Row(NamedTuple):
    """One row of a file of items: its number and its columns."""

    number: int
    values: dict[str, Any]


def file_rows(
    path: str, columns: pa.Schema, optional: Sequence[str] = (), layout: Layout | None = None
) -> Iterator[Row]:
    """Yield the rows of a file. Errors: InputError as `reading.read`, and for the first row with a fault or a null."""
    for table in read(path, columns, optional, layout):
        for values in table.to_pylist():
            if values["fault"]:
                raise InputError(f"{path}: row {values['row']}: {values['fault']}; an evaluation set must be whole")
            for name in columns.names:
                if values[name] is None and name not in optional:
                    raise InputError(f"{path}: row {values['row']}: no {name!r}; an evaluation set must be whole")
            yield Row(values["row"], values)


def stem(path: str) -> str:
    """What a file is called in ids: `gsm8k_test` for `a/gsm8k_test.jsonl.gz`."""
    return posixpath.basename(path).split(".")[0]


def split(path: str) -> str:
    """The split that a file's name speaks of; `test` where it speaks of none."""
    words = stem(path).replace("-", "_").split("_")
    return next((word for word in reversed(words) if word in ("train", "dev", "val", "validation", "test")), "test")


def table(benchmark: str, path: str, items: Sequence[tuple[int, Item]]) -> pa.Table:
    """Numbered items of one file as an ITEM table; ids are `<benchmark>/<file>/<number>`."""
    columns = [
        [f"{benchmark}/{stem(path)}/{number}" for number, _ in items],
        [split(path)] * len(items),
        [item.question for _, item in items],
        [item.answer for _, item in items],
        [list(item.choices) for _, item in items],
        [item.passage for _, item in items],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ITEM, strict=True)]
    return pa.table(arrays, schema=ITEM)


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables of a benchmark's files as one."""
    return pa.concat_tables([ITEM.empty_table(), *tables])


_COLUMNS = pa.schema(
    [
        pa.field("question", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("passage", pa.string()),
    ]
)


def _read(paths: list[str]) -> pa.Table:
    return together([table("items", path, list(_items(path))) for path in paths])


def _items(path: str) -> Iterator[tuple[int, Item]]:
    for number, row in file_rows(path, _COLUMNS, optional=("answer", "choices", "passage")):
        yield number, Item(row["question"], row["answer"] or "", row["choices"] or (), row["passage"] or "")


ITEMS = Benchmark(
    name="items",
    title="Items of the user's own: question, and answer, choices and passage where there are any",
    home="",
    revision="",
    licence="",
    read=_read,
)

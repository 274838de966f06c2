"""Evaluation items from files: the functions that the benchmarks share, and the benchmark of a user's own items.

Rows are processed in Python loops, here and in the benchmarks: an evaluation set has thousands of rows, not millions. A
row that cannot be read is an error, not a dropped row: a score over the rest would be a score on another set.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.errors import InputError
from pipelines.formats.delimited import Dialect
from pipelines.formats.read import read
from pipelines.records import ITEM


class Item(NamedTuple):
    """One item without its id. answer: if there are choices, the text of the right one."""

    question: str
    answer: str
    choices: Sequence[str] = ()
    passage: str = ""


class Row(NamedTuple):
    """One row of a file: its number and its columns."""

    number: int
    values: dict[str, Any]


def file_rows(
    path: str, columns: pa.Schema, optional: Sequence[str] = (), dialect: Dialect | None = None
) -> Iterator[Row]:
    """Yield the rows of a file.

    Raises: InputError: as `formats.read.read`, and for the first row with a fault, or a null in a column that is not
        optional.
    """
    for table in read(path, columns, optional, dialect):
        for values in table.to_pylist():
            if values["fault"]:
                raise InputError(f"{path}: row {values['row']}: {values['fault']}; an evaluation set must be complete")
            for name in columns.names:
                if values[name] is None and name not in optional:
                    raise InputError(f"{path}: row {values['row']}: no {name!r}; an evaluation set must be complete")
            yield Row(values["row"], values)


def stem(path: str) -> str:
    """The name of a file in ids: `gsm8k_test` for `a/gsm8k_test.jsonl.gz`."""
    return posixpath.basename(path).split(".")[0]


def split(path: str) -> str:
    """The split in the name of a file; `test` if there is none."""
    words = stem(path).replace("-", "_").split("_")
    return next((word for word in reversed(words) if word in ("train", "dev", "val", "validation", "test")), "test")


def table(benchmark: str, path: str, items: Sequence[tuple[int, Item]]) -> pa.Table:
    """Numbered items of one file as an ITEM table. Ids are `<benchmark>/<file>/<number>`."""
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


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate the ITEM tables of a benchmark's files."""
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
    return concat([table("items", path, list(_items(path))) for path in paths])


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

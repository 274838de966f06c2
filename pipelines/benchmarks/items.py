"""Evaluation items from files: what the benchmarks share, and the benchmark of a user's own items.

A benchmark is published in several layouts: as its authors' files, as Parquet on the hub. Each `Layout` names its
columns and makes an item of a row; the columns of a file decide which layout it has.

Rows are processed in Python loops, here and in the benchmarks: an evaluation set has thousands of rows, not millions. A
row that cannot be read is an error, not a dropped row: a score over the rest would be a score on another set.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.errors import InputError
from pipelines.formats.delimited import Dialect
from pipelines.formats.read import column_names, read
from pipelines.ledger import input_files
from pipelines.records import ITEM


class Item(NamedTuple):
    """One item without its id.

    answer: if there are choices, the text of the right one. details: what only a score needs, such as the subject or
    tests of a program. The contamination check does not read them.
    """

    question: str
    answer: str
    choices: Sequence[str] = ()
    passage: str = ""
    details: Mapping[str, Any] = {}


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


class Layout(NamedTuple):
    """One form in which the files of a benchmark are published.

    columns: those that are read, by which the layout is recognised. `choices.text` is a field of a struct. item: values
    of a row -> its item. It raises ValueError, saying what is wrong, for a row that is none. optional: columns that may
    be absent or null. dialect: of CSV without a header; a layout with one is recognised by the file's suffix. split: of
    all items; by default the file's name has it.
    """

    columns: pa.Schema
    item: Callable[[dict[str, Any]], Item]
    optional: Sequence[str] = ()
    dialect: Dialect | None = None
    split: str = ""


def reader(benchmark: str, *layouts: Layout) -> Callable[[list[str]], pa.Table]:
    """The `read` of a benchmark: paths of files, each in one of the layouts -> ITEM table, in the order of the files.

    It raises InputError: for a file in none of the layouts, and for the first row that is no item.
    """
    return functools.partial(_read_files, benchmark, layouts)


def _read_files(benchmark: str, layouts: Sequence[Layout], paths: list[str]) -> pa.Table:
    tables = []
    for path in paths:
        layout = _layout_of(path, layouts)
        tables.append(table(benchmark, path, file_items(path, layout), layout.split))
    return concat(tables)


def file_items(path: str, layout: Layout) -> list[tuple[int, Item]]:
    """The items of a file with their row numbers.

    Raises: InputError: as `file_rows`, and for the first row that is no item.
    """
    items = []
    for number, row in file_rows(path, layout.columns, layout.optional, layout.dialect):
        try:
            items.append((number, layout.item(row)))
        except ValueError as error:
            raise InputError(f"{path}: row {number}: {error}; an evaluation set must be complete") from error
    return items


def _layout_of(path: str, layouts: Sequence[Layout]) -> Layout:
    """The first layout whose columns the file has. Raises: InputError: if there is none."""
    if len(layouts) == 1:
        return layouts[0]
    for layout in layouts:
        if layout.dialect is not None and input_files.suffix(path) == ".csv":
            return layout
    present = set(column_names(path))
    forms = []
    for layout in layouts:
        names = dict.fromkeys(name.partition(".")[0] for name in layout.columns.names if name not in layout.optional)
        if layout.dialect is None and present.issuperset(names):
            return layout
        forms.append(" and ".join(names))
    raise InputError(
        f"{path}: no known layout of this evaluation set, which has the columns {', or '.join(forms)}; "
        f"the file has {', '.join(sorted(present)) or 'none'}"
    )


def labelled(question: str, choices: Sequence[str], labels: Sequence[str], label: str, **details: Any) -> Item:
    """The item whose right choice has this label.

    If two choices have the text of the right one, `details` has its number as `correct`, counted from 0.

    Raises: ValueError: if no choice has the label, or the lists are not of one length.
    """
    if len(choices) != len(labels) or label not in labels:
        raise ValueError(f"the answer {label!r} is none of the labels {', '.join(labels)}")
    number = list(labels).index(label)
    if list(choices).count(choices[number]) > 1:
        details["correct"] = number
    return Item(question, choices[number], choices, details=details)


def numbered(question: str, choices: Sequence[str], label: str, first: int = 0, **details: Any) -> Item:
    """The item whose right choice has this number, counted from `first`. Raises: ValueError: if there is none."""
    return labelled(question, choices, [str(first + number) for number in range(len(choices))], label, **details)


_SHARD = re.compile(r"(?P<split>.+)-(?P<shard>\d{5})-of-(?P<shards>\d{5})")
_CONVERTED = re.compile(r"\d{4}\.parquet")


def stem(path: str) -> str:
    """The name of a file in ids: `gsm8k_test` for `a/gsm8k_test.jsonl.gz`.

    On the hub the folders hold the configuration: `algebra_test` for `algebra/test-00000-of-00001.parquet`, and
    `plain_text_validation` for `plain_text/validation/0000.parquet`, as the hub names files that it has converted.
    """
    folder, base = posixpath.split(path.replace("\\", "/"))
    base, name = base.split(".")[0], base
    if match := _SHARD.fullmatch(base):
        split, shard, only = match["split"], match["shard"], int(match["shards"]) == 1
    elif _CONVERTED.fullmatch(name):
        folder, split = posixpath.split(folder)
        shard, only = base, int(base) == 0
    else:
        return base
    return "_".join(filter(None, (posixpath.basename(folder), split, "" if only else shard)))


def name_in_ids(path: str) -> str:
    """The name of a file with its suffixes, or its stem if that contains names of folders."""
    base = posixpath.basename(path)
    return base if base.split(".")[0] == stem(path) else stem(path)


def split(path: str) -> str:
    """The split in the name of a file; `test` if there is none."""
    words = stem(path).replace("-", "_").split("_")
    return next((word for word in reversed(words) if word in ("train", "dev", "val", "validation", "test")), "test")


DETAILS = "details"
"""A further column of an ITEM table: a struct, null for an item without details. A table without any has no such
column."""


def table(benchmark: str, path: str, items: Sequence[tuple[int, Item]], part: str = "") -> pa.Table:
    """Numbered items of one file as an ITEM table. Ids are `<benchmark>/<file>/<number>`. part: the split of all items;
    by default the file's name has it."""
    columns = [
        [f"{benchmark}/{stem(path)}/{number}" for number, _ in items],
        [part or split(path)] * len(items),
        [item.question for _, item in items],
        [item.answer for _, item in items],
        [list(item.choices) for _, item in items],
        [item.passage for _, item in items],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ITEM, strict=True)]
    rows = pa.table(arrays, schema=ITEM)
    if not any(item.details for _, item in items):
        return rows
    return rows.append_column(DETAILS, pa.array([dict(item.details) or None for _, item in items]))


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate the ITEM tables of a benchmark's files. Files may have different details."""
    return pa.concat_tables([ITEM.empty_table(), *tables], promote_options="permissive")


_COLUMNS = pa.schema(
    [
        pa.field("question", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("passage", pa.string()),
    ]
)


def _item(row: dict[str, Any]) -> Item:
    return Item(row["question"], row["answer"] or "", row["choices"] or (), row["passage"] or "")


ITEMS = Benchmark(
    name="items",
    title="Items of the user's own: question, and answer, choices and passage where there are any",
    home="",
    revision="",
    licence="",
    read=reader("items", Layout(_COLUMNS, _item, optional=("answer", "choices", "passage"))),
)

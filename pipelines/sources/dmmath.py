"""DeepMind's mathematics_dataset: questions and answers line by line, `direct`; the three training sets.

Read as published, one archive, or unpacked (`train-easy/algebra__linear_1d.txt`), which many workers can share. Either
way a module of a set is what is sampled (TASK). The sets for interpolation and extrapolation are evaluation sets.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import file_name, raw, with_task
from pipelines.formats.reading import read_lines, read_members
from pipelines.ledger import storage
from pipelines.sources.source import Source

_SETS = ("train-easy", "train-medium", "train-hard")
_ARCHIVES = (".tar", ".tgz")


def _read(path: str) -> Iterator[pa.Table]:
    if storage.suffix(path) not in _ARCHIVES:
        with storage.open_input(path) as file:
            for table in _questions(read_lines(path, file), 0):
                yield with_task(table, _task(path))
        return
    first = 0
    for name, file in read_members(path, ".txt"):
        if posixpath.basename(posixpath.dirname(name)) not in _SETS:
            continue
        for table in _questions(read_lines(f"{path}: {name}", file), first):
            yield with_task(table, _task(name))
            first = table["row"][-1].as_py() + 1


def _task(path: str) -> str:
    folder, name = posixpath.split(path)
    name = f"{posixpath.basename(folder)}__{name.split('.txt')[0]}"
    return str(file_name(pa.array([name]))[0])


def _questions(tables: Iterator[pa.Table], first: int) -> Iterator[pa.Table]:
    """Lines to RAW rows, two and two: a row's number is `first` plus that of its pair."""
    left = None
    for table in tables:
        lines = table if left is None else pa.concat_tables([left, table])
        whole = lines.num_rows // 2 * 2
        left = lines.slice(whole)
        if whole:
            yield _pairs(lines.slice(0, whole), first)
    if left is not None and left.num_rows:  # a question without an answer: null_response
        yield _pairs(pa.concat_tables([left, left.slice(0, 1)]), first, answered=False)


def _pairs(lines: pa.Table, first: int, answered: bool = True) -> pa.Table:
    at = np.arange(0, lines.num_rows, 2)
    asked, told = lines.take(pa.array(at)), lines.take(pa.array(at + 1))
    number = pa.array(asked["row"].to_numpy() // 2 + first)
    rows = asked.set_column(asked.schema.get_field_index("row"), "row", number)
    rows = rows.set_column(rows.schema.get_field_index("fault"), "fault", pc.coalesce(asked["fault"], told["fault"]))
    answer = pc.utf8_trim_whitespace(told["line"]) if answered else pa.nulls(len(at), pa.string())
    return raw(rows, pc.utf8_trim_whitespace(asked["line"]), answer, "direct")


DMMATH = Source(
    name="dmmath",
    title="DeepMind mathematics_dataset v1.0, train-easy, train-medium, train-hard",
    home="https://github.com/google-deepmind/mathematics_dataset",
    revision="v1.0",
    licence="Apache-2.0",
    conditions=("direct",),
    path=("https://storage.googleapis.com/mathematics-dataset/mathematics_dataset-v1.0.tar.gz",),
    part="symbolic",
    read=_read,
)

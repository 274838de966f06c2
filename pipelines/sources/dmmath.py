"""DeepMind's mathematics_dataset: questions and answers on alternating lines, `direct`; the three training sets.

Read as published, one archive, or unpacked (`train-easy/algebra__linear_1d.txt`), which several workers can share. The
task that is sampled (TASK) is a module of a set in both cases. The sets for interpolation and extrapolation are
evaluation sets and are not read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.archive import read_members
from pipelines.formats.pairs import file_name, raw, with_task
from pipelines.formats.read import read_lines
from pipelines.ledger import input_files
from pipelines.sources.source import Source

_SETS = ("train-easy", "train-medium", "train-hard")
_ARCHIVES = (".tar", ".tgz")


def _read(path: str) -> Iterator[pa.Table]:
    if input_files.suffix(path) not in _ARCHIVES:
        with input_files.open_input(path) as file:
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
    """RAW rows from pairs of lines. A row's number is `first` plus the number of its pair."""
    rest = None
    for table in tables:
        lines = table if rest is None else pa.concat_tables([rest, table])
        paired = lines.num_rows // 2 * 2
        rest = lines.slice(paired)
        if paired:
            yield _pairs(lines.slice(0, paired), first)
    if rest is not None and rest.num_rows:  # a question without an answer: null_response
        yield _pairs(pa.concat_tables([rest, rest.slice(0, 1)]), first, answered=False)


def _pairs(lines: pa.Table, first: int, answered: bool = True) -> pa.Table:
    even = np.arange(0, lines.num_rows, 2)
    questions, answers = lines.take(pa.array(even)), lines.take(pa.array(even + 1))
    numbers = pa.array(questions["row"].to_numpy() // 2 + first)
    faults = pc.coalesce(questions["fault"], answers["fault"])
    rows = questions.set_column(questions.schema.get_field_index("row"), "row", numbers)
    rows = rows.set_column(rows.schema.get_field_index("fault"), "fault", faults)
    response = pc.utf8_trim_whitespace(answers["line"]) if answered else pa.nulls(len(even), pa.string())
    return raw(rows, pc.utf8_trim_whitespace(questions["line"]), response, "direct")


DMMATH = Source(
    name="dmmath",
    title="DeepMind mathematics_dataset v1.0, train-easy, train-medium, train-hard",
    home="https://github.com/google-deepmind/mathematics_dataset",
    revision="v1.0",
    licence="Apache-2.0",
    generators=(),
    conditions=("direct",),
    path=("https://storage.googleapis.com/mathematics-dataset/mathematics_dataset-v1.0.tar.gz",),
    part="symbolic",
    read=_read,
)

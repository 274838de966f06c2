"""BIG-Bench Hard: one file per task. Options in the input, with letters or dashes, become choices."""

from __future__ import annotations

import re

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.formats.read import text_columns

_OPTION = re.compile(r"^(?:(?P<letter>\([A-Z]\))|-) ?(?P<choice>.*?)\s*$")


def _read(paths: list[str]) -> pa.Table:
    return concat([table("bbh", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    rows = file_rows(path, text_columns("input", "target"))
    return [(number, parse(row["input"], row["target"])) for number, row in rows]


def parse(text: str, target: str) -> Item:
    """Split an input into question and choices. If the target is none of the choices, the input is the question."""
    question, mark, options = text.partition("\nOptions:\n")
    matches = [_OPTION.match(line) for line in options.split("\n")] if mark else []
    if all(matches):
        choices = {(match["letter"] or match["choice"]): match["choice"] for match in matches if match}
        if target.strip() in choices:
            return Item(question, choices[target.strip()], list(choices.values()))
    return Item(text, target)


BBH = Benchmark(
    name="bbh",
    title="BIG-Bench Hard, 27 tasks",
    home="https://github.com/suzgunmirac/BIG-Bench-Hard",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("bbh/*.json",),
)

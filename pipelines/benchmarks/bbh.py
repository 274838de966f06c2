"""BIG-Bench Hard: one file per task. Options in the input, lettered or dashed, become choices."""

from __future__ import annotations

import re

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, file_rows, table, together
from pipelines.formats.reading import text

_OPTION = re.compile(r"^(?:(?P<letter>\([A-Z]\))|-) ?(?P<choice>.*?)\s*$")


def _read(paths: list[str]) -> pa.Table:
    return together([table("bbh", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    return [(number, parse(row["input"], row["target"])) for number, row in file_rows(path, text("input", "target"))]


def parse(asked: str, target: str) -> Item:
    """Take the options out of the input; where the target is none of them, the input is left whole."""
    question, mark, options = asked.partition("\nOptions:\n")
    found = [_OPTION.match(line) for line in options.split("\n")] if mark else []
    if all(found):
        named = {(one["letter"] or one["choice"]): one["choice"] for one in found if one}
        if target.strip() in named:
            return Item(question, named[target.strip()], list(named.values()))
    return Item(asked, target)


BBH = Benchmark(
    name="bbh",
    title="BIG-Bench Hard, 27 tasks",
    home="https://github.com/suzgunmirac/BIG-Bench-Hard",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("bbh/*.json",),
)

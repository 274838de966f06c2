"""BIG-Bench Hard: one file per task. Options in the input, with letters or dashes, become choices."""

from __future__ import annotations

import re

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub

_OPTION = re.compile(r"^(?:(?P<letter>\([A-Z]\))|-) ?(?P<choice>.*?)\s*$")


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
    read=reader("bbh", Layout(text_columns("input", "target"), lambda row: parse(row["input"], row["target"]))),
    path=on_hub("lukaemon/bbh", "*/test-*.parquet"),
    files=("bbh/*.json",),
)

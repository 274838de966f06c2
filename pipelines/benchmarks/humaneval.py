"""HumanEval: 164 functions to complete. The question is a signature with docstring, the answer the body.

`details` has the code of the tests and the name of the function that they check.
"""

from __future__ import annotations

from typing import Any

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub

_TESTS = ("test", "entry_point")


def _item(row: dict[str, Any]) -> Item:
    tests = {name: row[name] for name in _TESTS if row[name] is not None}
    return Item(row["prompt"], row["canonical_solution"], details=tests)


_LAYOUT = Layout(text_columns("prompt", "canonical_solution", *_TESTS), _item, optional=_TESTS)

HUMANEVAL = Benchmark(
    name="humaneval",
    title="HumanEval",
    home="https://github.com/openai/human-eval",
    revision="unknown",
    licence="MIT",
    read=reader("humaneval", _LAYOUT),
    path=on_hub("openai/openai_humaneval", "openai_humaneval/test-*.parquet"),
    files=("HumanEval.jsonl*",),
)

"""DROP dev: questions about counts and comparisons in a passage. `answer` is the accepted answers, joined by `|`."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub

_CONTEXT = re.compile(r"Passage: (?P<passage>.*)\nQuestion: (?P<question>.*)\nAnswer:", re.DOTALL)


def _prompt_item(row: dict[str, Any]) -> Item:
    match = _CONTEXT.fullmatch(row["context"])
    if match is None:
        raise ValueError("the context is not `Passage: ... Question: ... Answer:`")
    return Item(match["question"], row["ref_text"], passage=match["passage"])


def _hub_item(row: dict[str, Any]) -> Item:
    answers = dict.fromkeys(row["answers_spans.spans"])
    if not answers:
        raise ValueError("no answer")
    return Item(row["question"], "|".join(answers), passage=row["passage"])


_HUB = pa.schema([("passage", pa.string()), ("question", pa.string()), ("answers_spans.spans", pa.list_(pa.string()))])

DROP = Benchmark(
    name="drop",
    title="DROP, dev split",
    home="https://github.com/OpenBMB/Eurus",
    revision="unknown",
    licence="CC-BY-SA-4.0",
    read=reader("drop", Layout(text_columns("context", "ref_text"), _prompt_item), Layout(_HUB, _hub_item)),
    path=on_hub("ucinlp/drop", "data/validation-*.parquet"),
    files=("drop_*_dev.jsonl*",),
)

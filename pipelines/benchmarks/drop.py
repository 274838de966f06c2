"""DROP dev: questions about counts and comparisons in a passage. `answer` is the accepted answers, joined by `|`.

An answer can be several spans of the passage. Three layouts are read. That of EleutherAI/drop has each annotator's
answer: `details` has them as lists of spans, and the score is exact. A prompt with `ref_text` has the spans of an
answer joined by `and`, and ucinlp/drop has the spans of all annotators in one list. There each text is taken as an
answer of its own, so an answer of several spans is judged otherwise.
"""

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


def _annotated_item(row: dict[str, Any]) -> Item:
    answers = dict.fromkeys(_spans(answer) for answer in (row["answer"], *_validated(row["validated_answers"])))
    texts = dict.fromkeys(" and ".join(spans) for spans in answers if spans[0].strip())
    if not texts:
        raise ValueError("no answer")
    return Item(row["question"], "|".join(texts), passage=row["passage"], details={"answers": [*map(list, answers)]})


def _spans(answer: dict[str, Any]) -> tuple[str, ...]:
    """An annotator's answer: a number, else spans, else a date."""
    if answer["number"]:
        return (answer["number"],)
    if answer["spans"]:
        return tuple(answer["spans"])
    date = answer["date"] or {}
    return (" ".join(date.get(part) or "" for part in ("day", "month", "year")).strip(),)


def _validated(answers: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The answers of further annotators, of columns rows."""
    names = ("number", "date", "spans")
    columns = [answers[name] or [] for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


_DATE = pa.struct([pa.field(name, pa.string()) for name in ("day", "month", "year")])
_ANSWER = {"number": pa.string(), "date": _DATE, "spans": pa.list_(pa.string())}
_ANNOTATED = pa.schema(
    [
        ("passage", pa.string()),
        ("question", pa.string()),
        ("answer", pa.struct(list(_ANSWER.items()))),
        ("validated_answers", pa.struct([(name, pa.list_(kind)) for name, kind in _ANSWER.items()])),
    ]
)
_HUB = pa.schema([("passage", pa.string()), ("question", pa.string()), ("answers_spans.spans", pa.list_(pa.string()))])

_CONVERTED = "EleutherAI/drop@refs/convert/parquet"
"""The hub's Parquet files of a data set whose own files are read by a program."""

DROP = Benchmark(
    name="drop",
    title="DROP, dev split",
    home="https://github.com/OpenBMB/Eurus",
    revision="unknown",
    licence="CC-BY-SA-4.0",
    read=reader(
        "drop",
        Layout(text_columns("context", "ref_text"), _prompt_item),
        Layout(_HUB, _hub_item),
        Layout(_ANNOTATED, _annotated_item),
    ),
    path=on_hub("ucinlp/drop", "data/validation-*.parquet"),
    files=("drop_*_dev.jsonl*",),
    shots=on_hub(_CONVERTED, "*/train/*.parquet"),
    scored=on_hub(_CONVERTED, "*/validation/*.parquet"),
)

"""Seven multiple-choice sets: ARC (two), BoolQ, OpenBookQA, PIQA, Social IQa and WinoGrande.

Each is read in two layouts: as its authors publish it on the hub, and in the wording of the LLM-Adapters repository,
which is split into question and choices:

    Please choose the correct answer to the question: ...

    Answer1: ... Answer2: ...

    Answer format: answer1/answer2
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, labelled, numbered, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub

_CHOICES = re.compile(
    r"Please choose the correct "
    r"(?:answer to the question|solution to the question|answer to fill in the blank to complete the given sentence): "
    r"(?P<question>.*?)\n\n(?P<choices>(?:Answer|Solution|Option)1:.*?)\s*Answer format: (?P<labels>\S+)",
    re.DOTALL,
)
_TRUTH = re.compile(
    r"Please answer the following question with true or false, question: (?P<question>.*)\n\nAnswer format: true/false",
    re.DOTALL,
)


def _adapters_item(row: dict[str, Any]) -> Item:
    item = parse(row["instruction"], row["answer"])
    if item is None:
        raise ValueError("not in the wording of the LLM-Adapters repository")
    return item


_ADAPTERS = Layout(text_columns("instruction", "answer"), _adapters_item)


def parse(instruction: str, answer: str) -> Item | None:
    """The item in an instruction, or None. `true` and `false` become the choices Yes and No."""
    if match := _TRUTH.fullmatch(instruction):
        choice = {"true": "Yes", "false": "No"}.get(answer)
        return Item(match["question"], choice, ("Yes", "No")) if choice else None
    match = _CHOICES.fullmatch(instruction)
    if match is None:
        return None
    labels = match["labels"].split("/")
    patterns = [rf"{label.capitalize()}:\s?(.*?)" for label in labels]
    texts = re.fullmatch(r"\s+".join(patterns) + r"\s*", match["choices"], re.DOTALL)
    if texts is None or answer not in labels:
        return None
    return labelled(match["question"], [text.strip() for text in texts.groups()], labels, answer)


def _lettered_item(row: dict[str, Any]) -> Item:
    question = row["question"] if "question" in row else row["question_stem"]
    return labelled(question, row["choices.text"], row["choices.label"], row["answerKey"])


def _boolq_item(row: dict[str, Any]) -> Item:
    answer = {"true": "Yes", "false": "No"}.get(row["answer"].lower())
    if answer is None:
        raise ValueError(f"the answer {row['answer']!r} is not true or false")
    return Item(row["question"], answer, ("Yes", "No"), row["passage"])


def _piqa_item(row: dict[str, Any]) -> Item:
    return numbered(row["goal"], [row["sol1"], row["sol2"]], row["label"])


def _siqa_item(row: dict[str, Any]) -> Item:
    choices = [row["answerA"], row["answerB"], row["answerC"]]
    return numbered(f"{row['context']} {row['question']}", choices, row["label"], first=1)


def _winogrande_item(row: dict[str, Any]) -> Item:
    return numbered(row["sentence"], [row["option1"], row["option2"]], row["answer"], first=1)


def _lettered(question: str) -> pa.Schema:
    lists = pa.list_(pa.string())
    return pa.schema(
        [(question, pa.string()), ("choices.text", lists), ("choices.label", lists), ("answerKey", pa.string())]
    )


def _benchmark(
    name: str,
    title: str,
    columns: pa.Schema,
    item: Callable[[dict[str, Any]], Item],
    path: tuple[str, ...],
    file: str = "",
    shots: tuple[str, ...] = (),
) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        home="https://github.com/AGI-Edgerunners/LLM-Adapters",
        revision="unknown",
        licence="Apache-2.0",
        read=reader(name, Layout(columns, item), _ADAPTERS),
        path=path,
        files=(f"{file or name}_test.json",),
        shots=shots,
    )


_CONVERTED = "@refs/convert/parquet"
"""The revision in which the hub keeps Parquet files of a data set whose own files are read by a program."""

ARC_CHALLENGE = _benchmark(
    "arc_challenge",
    "ARC, challenge set, test split",
    _lettered("question"),
    _lettered_item,
    on_hub("allenai/ai2_arc", "ARC-Challenge/test-*.parquet"),
    shots=on_hub("allenai/ai2_arc", "ARC-Challenge/validation-*.parquet"),
)
ARC_EASY = _benchmark(
    "arc_easy",
    "ARC, easy set, test split",
    _lettered("question"),
    _lettered_item,
    on_hub("allenai/ai2_arc", "ARC-Easy/test-*.parquet"),
    shots=on_hub("allenai/ai2_arc", "ARC-Easy/validation-*.parquet"),
)
BOOLQ = _benchmark(
    "boolq",
    "BoolQ, validation split; with passages if the file has them",
    text_columns("question", "answer", "passage"),
    _boolq_item,
    on_hub("google/boolq", "data/validation-*.parquet"),
    shots=on_hub("google/boolq", "data/train-*.parquet"),
)
OPENBOOKQA = _benchmark(
    "openbookqa",
    "OpenBookQA, test split",
    _lettered("question_stem"),
    _lettered_item,
    on_hub("allenai/openbookqa", "main/test-*.parquet"),
)
PIQA = _benchmark(
    "piqa",
    "PIQA, validation split",
    text_columns("goal", "sol1", "sol2", "label"),
    _piqa_item,
    on_hub("ybisk/piqa" + _CONVERTED, "plain_text/validation/*.parquet"),
)
SIQA = _benchmark(
    "siqa",
    "Social IQa, validation split",
    text_columns("context", "question", "answerA", "answerB", "answerC", "label"),
    _siqa_item,
    on_hub("allenai/social_i_qa" + _CONVERTED, "default/validation/*.parquet"),
    "social_i_qa",
)
WINOGRANDE = _benchmark(
    "winogrande",
    "WinoGrande, validation split",
    text_columns("sentence", "option1", "option2", "answer"),
    _winogrande_item,
    on_hub("allenai/winogrande" + _CONVERTED, "winogrande_debiased/validation/*.parquet"),
    shots=on_hub("allenai/winogrande" + _CONVERTED, "winogrande_debiased/train/*.parquet"),
)

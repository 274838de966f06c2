"""Seven multiple-choice sets in the wording of the LLM-Adapters repository, split into question and choices.

Please choose the correct answer to the question: ...\\n\\nAnswer1: ... Answer2: ...\\n\\nAnswer format: answer1/answer2
"""

from __future__ import annotations

import functools
import re

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.errors import InputError
from pipelines.formats.read import text_columns

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


def _read(name: str, paths: list[str]) -> pa.Table:
    return concat([table(name, path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    items = []
    for number, row in file_rows(path, text_columns("instruction", "answer")):
        item = parse(row["instruction"], row["answer"])
        if item is None:
            raise InputError(f"{path}: row {number}: not in the wording of the LLM-Adapters repository")
        items.append((number, item))
    return items


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
    choices = [text.strip() for text in texts.groups()]
    return Item(match["question"], choices[labels.index(answer)], choices)


def _benchmark(name: str, title: str, file: str = "") -> Benchmark:
    home = "https://github.com/AGI-Edgerunners/LLM-Adapters"
    files = (f"{file or name}_test.json",)
    return Benchmark(name, title, home, "unknown", "Apache-2.0", read=functools.partial(_read, name), files=files)


ARC_CHALLENGE = _benchmark("arc_challenge", "ARC, challenge set, test split")
ARC_EASY = _benchmark("arc_easy", "ARC, easy set, test split")
BOOLQ = _benchmark("boolq", "BoolQ, validation split, questions without passages")
OPENBOOKQA = _benchmark("openbookqa", "OpenBookQA, test split")
PIQA = _benchmark("piqa", "PIQA, validation split")
SIQA = _benchmark("siqa", "Social IQa, validation split", "social_i_qa")
WINOGRANDE = _benchmark("winogrande", "WinoGrande, validation split")

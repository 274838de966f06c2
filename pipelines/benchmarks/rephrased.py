"""Items of MMLU and HumanEval in other words, from LLM-Decontaminator, to measure what n-grams do not find.

MMLU is pairs of files, `<subject>_test.csv` and `<subject>_test_rephrase_...jsonl`, with the same lines. A line without
text was not rephrased and is no item; ids keep the line's number. Without the CSV, items have no answer.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_items, file_rows, stem, table
from pipelines.benchmarks.mmlu import SUBJECT
from pipelines.errors import InputError
from pipelines.formats.read import text_columns
from pipelines.ledger import input_files

_HOME = "https://github.com/lm-sys/llm-decontaminator"


def _read_mmlu(paths: list[str]) -> pa.Table:
    originals = {stem(path): dict(file_items(path, SUBJECT)) for path in paths if input_files.suffix(path) == ".csv"}
    rephrased = [path for path in paths if input_files.suffix(path) != ".csv"]
    for subject in originals:
        if not any(stem(path).startswith(subject) for path in rephrased):
            raise InputError(f"{subject}.csv: no file with its rephrased questions was given")
    return concat([table("rephrased_mmlu", path, _mmlu_items(path, originals)) for path in rephrased])


def _mmlu_items(path: str, originals: dict[str, dict[int, Item]]) -> list[tuple[int, Item]]:
    original = originals.get(stem(path).split("_rephrase_")[0], {})
    items = []
    for number, row in file_rows(path, text_columns("text")):
        if row["text"]:
            item = original.get(number, Item("", ""))
            items.append((number, item._replace(question=row["text"])))
    return items


def _read_humaneval(paths: list[str]) -> pa.Table:
    return concat([table("rephrased_humaneval", path, _functions(path)) for path in paths])


def _functions(path: str) -> list[tuple[int, Item]]:
    return [(number, Item(row["text"], "")) for number, row in file_rows(path, text_columns("text")) if row["text"]]


REPHRASED_MMLU = Benchmark(
    name="rephrased_mmlu",
    title="MMLU, two subjects in other words",
    home=_HOME,
    revision="unknown",
    licence="Apache-2.0",
    read=_read_mmlu,
    files=("rephrased/*_test.csv", "rephrased/*_rephrase_*.jsonl"),
)
REPHRASED_HUMANEVAL = Benchmark(
    name="rephrased_humaneval",
    title="HumanEval in other words, with solutions",
    home=_HOME,
    revision="unknown",
    licence="Apache-2.0",
    read=_read_humaneval,
    files=("rephrased/humaneval_python.jsonl",),
)

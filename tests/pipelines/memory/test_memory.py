"""Rows in memory get the verdicts of a build, in the type that was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import winnow

ROWS = [
    {"question": "What is 2 + 2?", "answer": "<think>Easy.</think>It is 4.", "id": 7},
    {"question": "Write a poem.", "answer": "I'm sorry, but I cannot help with that.", "id": 8},
    {"question": "Say hello.", "answer": "Hello there, how are you?", "id": 9},
]
TABLES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], list[dict[str, Any]]]]] = {
    "list": (list, list),
    "arrow": (pa.Table.from_pylist, pa.Table.to_pylist),
    "batch": (pa.RecordBatch.from_pylist, pa.RecordBatch.to_pylist),
    "polars": (pl.DataFrame, pl.DataFrame.to_dicts),
    "pandas": (lambda rows: pd.DataFrame(rows, index=[5, 6, 7]), lambda frame: frame.to_dict("records")),
    "datasets": (datasets.Dataset.from_list, datasets.Dataset.to_list),
}
TEXTS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "arrow": pa.array,
    "chunked": lambda texts: pa.chunked_array([texts[:1], texts[1:]]),
    "polars": lambda texts: pl.Series("x", texts),
    "pandas": lambda texts: pd.Series(texts, index=range(3, 3 + len(texts))),
}


@pytest.mark.parametrize("name", TABLES)
def test_kept_and_dropped_rows_have_the_type_and_the_columns_of_the_input(name: str) -> None:
    make, read = TABLES[name]
    data = make(ROWS)
    result = winnow.filter(data, ["strip_thinking", "refusal"])
    assert type(result.kept) is type(data) and type(result.dropped) is type(data)
    assert read(result.kept) == [ROWS[0] | {"answer": "It is 4."}, ROWS[2]]
    (dropped,) = read(result.dropped)
    assert dropped == ROWS[1] | {"stage": "refusal", "reason": "refusal", "evidence": dropped["evidence"]}
    assert result.reasons == {"refusal/refusal": 1}
    assert read(data) == ROWS  # the input is unchanged


@pytest.mark.parametrize("name", TEXTS)
def test_texts_keep_their_type_and_order(name: str) -> None:
    data = TEXTS[name](["<think>a</think>b", "c", "<think>only</think>"])
    stripped = winnow.strip_thinking(data)
    assert type(stripped) is type(data)
    assert [str(text) for text in stripped] == ["b", "c", ""]
    if name == "pandas":
        assert list(stripped.index) == [3, 4, 5]


def test_a_column_of_a_data_set_and_an_array_are_texts() -> None:
    texts = [row["answer"] for row in ROWS]
    for data in (datasets.Dataset.from_list(ROWS)["answer"], np.array(texts)):
        assert winnow.deduplicate(data).kept.tolist() == [True, True, True]


def test_no_rows_are_no_error() -> None:
    assert winnow.filter([], ["loop"]).kept == []
    assert winnow.deduplicate([]).kept.tolist() == []
    assert winnow.strip_thinking([]) == []
    assert (
        winnow.filter(
            pa.table({"question": pa.array([], pa.string()), "answer": pa.array([], pa.string())}), []
        ).kept.num_rows
        == 0
    )


def test_duplicates_are_those_of_a_build_of_the_same_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    words = [first + last for first in ("ba", "co", "di", "fu", "ge") for last in "bdfglmnrst"]
    rows = []
    for _ in range(300):
        question, answer = (" ".join(random.choice(words, 60)) for _ in range(2))
        rows.append({"instruction": question, "response": answer})
        if random.random() < 0.5:
            other = random.choice([question, question.capitalize(), question.replace(" bab ", " zebra ", 1)])
            rows.append({"instruction": other, "response": answer})
        if random.random() < 0.2:
            rows.append({"instruction": question, "response": " ".join(random.choice(words, 60))})
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    source = {
        "name": "rows",
        "path": str(path),
        "columns": {"instruction": "instruction", "response": "response"},
        "condition": "direct",
    }
    recipe = {"name": "r", "sources": [source], "tokenizer": {"vocab_size": 512}, "sampling": {"context": 513}}
    answer = winnow.build(recipe, str(tmp_path / "root"))
    built = {int(name.rpartition("/")[2]) for shard in answer.corpus for name in pq.read_table(shard)["id"].to_pylist()}
    found = winnow.deduplicate(rows)
    assert set(np.flatnonzero(found.kept).tolist()) == built
    assert 100 < (~found.kept).sum() < 250
    assert found.kept[found.twins[~found.kept]].all()  # a twin is a row that stays
    assert np.isnan(found.jaccard[found.kept]).all() and (found.jaccard[~found.kept] >= 0.8).all()
    assert {reason for reason in found.reasons if reason} == {"exact_duplicate", "same_words", "near_duplicate"}


def test_a_table_is_scanned_for_items_of_texts_tables_and_files(tmp_path: Path) -> None:
    item = "A baker sells 12 loaves in the morning and 30 loaves in the evening. How many loaves does the baker sell?"
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps({"question": item, "answer": "42"}) + "\n")
    corpus = pl.DataFrame({"prompt": ["Name a colour.", item], "completion": ["Red.", "42"]})
    for benchmarks in ({"quiz": [item]}, {"quiz": pa.table({"question": [item], "answer": ["42"]})}, [f"quiz={path}"]):
        scanned = winnow.scan(corpus, benchmarks)
        assert scanned.leaked.tolist() == [False, True]
        assert scanned.found == {"quiz": 1}
        assert scanned.hits["row"].to_pylist() == [1] and scanned.hits["item"].to_pylist() == ["items/quiz/0"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: winnow.filter(ROWS, ["refusall"]), "'refusall'; did you mean 'refusal'"),
        (lambda: winnow.filter(ROWS, [{"kind": "length", "max_chars": "many"}]), "length: max_chars"),
        (lambda: winnow.deduplicate(ROWS, columns="answr"), "no column 'answr'; did you mean 'answer'"),
        (lambda: winnow.deduplicate(ROWS, columns="id"), "column 'id': int64, not text"),
        (lambda: winnow.deduplicate(["a", None]), "row 1 is null"),
        (lambda: winnow.deduplicate(["a", 5]), "row 1 is a int"),
        (lambda: winnow.deduplicate({"a": 1}), "rows of type dict"),
        (lambda: winnow.deduplicate([{"x": "a", "y": "b"}]), "name them: columns="),
        (lambda: winnow.deduplicate(["a"], jaccard=1.5), "jaccard: .*1.5"),
        (lambda: winnow.deduplicate(ROWS, jaccard={"answr": 0.5}), "no compared column 'answr'"),
        (lambda: winnow.scan(["a"], {"m": ["q"]}, rule="thirteen"), "unknown rule 'thirteen'"),
        (lambda: winnow.scan(["a"], {"m": []}), "benchmark 'm': no items"),
        (lambda: winnow.scan(["a"], {"m": [{"prompt": "q"}]}), "benchmark 'm': no column 'question'"),
        (lambda: winnow.strip_thinking(ROWS), "not a table"),
        (lambda: winnow.build({"name": "x"}), "sources: missing"),
        (lambda: winnow.deduplicate(["a"], columns="text"), "texts have none"),
        (lambda: winnow.deduplicate(["a\ud800"]), "not Unicode"),
        (lambda: winnow.deduplicate([{"text": "a"}, "b"]), "row 1 is a str"),
        (lambda: winnow.deduplicate([{"text": "a"}, {"text": 5}]), "several types"),
        (lambda: winnow.deduplicate(pd.DataFrame({"text": ["a", 5]})), "several types"),
        (lambda: winnow.deduplicate(datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})), r"\['train'\]"),
        (lambda: winnow.filter([{"text": "a", "stage": "x"}], ["loop"]), "a column 'stage'"),
        (lambda: winnow.scan(["a"], {}), "name at least one"),
        (lambda: winnow.scan(["a"], {"m": ["q", None]}), "benchmark 'm': a question is null"),
    ],
)
def test_a_mistake_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(winnow.WinnowError, match=message):
        call()


def test_importing_winnow_loads_no_library_and_a_call_none_that_was_not_given() -> None:
    code = (
        "import sys, winnow; heavy = {'pandas', 'polars', 'datasets', 'torch', 'ray', 'prefect', 'numba', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules))); winnow.strip_thinking(['a']); "
        "print(sorted({'datasets', 'torch', 'ray', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_columns_that_are_not_compared_may_hold_anything() -> None:
    frame = pd.DataFrame({"text": ["same words here", "same words here"], "other": [{"a": 1}, 5]})
    assert winnow.deduplicate(frame).kept.tolist() == [True, False]


def test_a_script_without_a_guard_builds_with_several_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    source = '{"name": "n", "adapter": "generated_arithmetic", "rows": 50}'
    recipe = (
        f'{{"name": "r", "sources": [{source}], "tokenizer": {{"vocab_size": 512}}, "sampling": {{"context": 129}}}}'
    )
    script.write_text(f"import winnow\nprint(winnow.build({recipe}, 'root', workers=2).rows_in)\n")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "50\n", done.stderr

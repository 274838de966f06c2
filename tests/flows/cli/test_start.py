"""Files of the user's own become a recipe and a corpus at the first try, in any common layout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ledger import storage
from pipelines.settings import parse_yaml

WINNOW = Path(sys.executable).parent / "winnow"
LOCAL = ("--engine", "local", "--workers", "1")
THINGS = ("river", "mountain", "desert", "forest", "island", "glacier", "valley", "harbour")


def winnow(*words: str | Path, folder: Path, check: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([WINNOW, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == check, done.stdout + done.stderr
    return done


def pairs(topic: str) -> list[tuple[str, str]]:
    return [(f"What is the {topic} of a {thing}?", f"The {topic} of a {thing} is {len(thing)}.") for thing in THINGS]


def openai(asked: str, answered: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def sharegpt(asked: str, answered: str) -> list[dict[str, str]]:
    turns = [("system", "Be brief."), ("human", asked), ("gpt", answered), ("human", "And then?"), ("gpt", "Nothing.")]
    return [{"from": who, "value": said} for who, said in turns]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


Row = Callable[[str, str], dict[str, Any]]
LAYOUTS: dict[str, tuple[Row, str]] = {
    "completions": (lambda q, a: {"prompt": q, "completion": a}, "jsonl"),
    "queries": (lambda q, a: {"id": 3, "query": q, "response": a, "score": 0.5}, "jsonl"),
    "nested": (lambda q, a: {"qa": {"q": q, "a": a}}, "jsonl"),
    "preferences": (lambda q, a: {"prompt": q, "chosen": a, "rejected": "No."}, "json"),
    "turns": (lambda q, a: {"Dialog": openai(q, a)}, "parquet"),
    "prompt_turns": (lambda q, a: {"prompt": openai(q, a)[:1], "completion": openai(q, a)[1:]}, "jsonl"),
    "spelling": (lambda q, a: {"User Prompt": q, "modelAnswer": a, "model": "m-1"}, "jsonl"),
    "squad": (lambda q, a: {"question": q, "answers": {"text": [a], "answer_start": [0]}}, "json"),
    "reasoning": (lambda q, a: {"question": q, "thinking": "Let me think.", "answer": a}, "jsonl"),
    "problems": (lambda q, a: {"problem": q, "answer": "7", "solution": a}, "parquet"),
    "seq2seq": (lambda q, a: {"inputs": q, "targets": a}, "tsv"),
    "german": (lambda q, a: {"Question": f"Größe: {q}", "Answer": a}, "csv"),
}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        jsonl(path, rows)
    else:  # as spreadsheets write it: semicolons or tabs, Windows-1252
        delimiter = ";" if path.suffix == ".csv" else "\t"
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join(f"{delimiter.join(map(str, line))}\n" for line in lines), encoding="cp1252")


def corpus(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for path in answer["corpus"] for row in storage.read_parquet(path).to_pylist()]


ISSUE: dict[str, tuple[str, Row, Callable[[str, str], tuple[str, str]]]] = {
    "csv": ("qa.csv", lambda q, a: {"question": q, "answer": a}, lambda q, a: (q, a)),
    "alpaca": (
        "alpaca.json",
        lambda q, a: {"instruction": q, "input": "In metres.", "output": a},
        lambda q, a: (f"{q}\n\nIn metres.", a),
    ),
    "sharegpt": (
        "chat.jsonl",
        lambda q, a: {"conversations": sharegpt(q, a)},
        lambda q, a: (f"Be brief.\n\n{q}", a),
    ),
    "messages": ("train.parquet", lambda q, a: {"messages": openai(q, a)}, lambda q, a: (q, a)),
}


@pytest.mark.parametrize("name", ISSUE)
def test_init_build_and_report_work_at_the_first_try(name: str, tmp_path: Path) -> None:
    file, row, expected = ISSUE[name]
    write(tmp_path / file, [row(*pair) for pair in pairs("height")])
    shown = winnow("init", file, folder=tmp_path).stdout
    for part in expected(*pairs("height")[0]):
        assert part.splitlines()[0] in shown and f"/{0}" in shown
    answer = json.loads(winnow("build", "recipe.yaml", *LOCAL, "--json", folder=tmp_path).stdout)
    assert {(r["instruction"], r["response"]) for r in corpus(answer)} == {expected(*p) for p in pairs("height")}
    assert answer["rows_kept"] == answer["rows_in"] == len(THINGS)
    assert Path(tmp_path, winnow("report", folder=tmp_path).stdout.strip()).is_file()
    schema = json.loads((tmp_path / "recipe.schema.json").read_text(encoding="utf-8"))
    text = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    jsonschema.validate(parse_yaml(text), schema)
    if name == "csv":  # the same bytes without a recipe
        again = json.loads(winnow("build", file, *LOCAL, "--root", "other", "--json", folder=tmp_path).stdout)
        assert again["run"] == answer["run"] and again["rows_kept"] == answer["rows_kept"]
        for left, right in ((answer["corpus"], again["corpus"]), (answer["tokens"], again["tokens"])):
            assert [storage.digest(path) for path in left] == [storage.digest(path) for path in right]


def test_files_of_many_layouts_become_one_corpus_with_a_source_for_each(tmp_path: Path) -> None:
    for name, (row, suffix) in LAYOUTS.items():
        write(tmp_path / f"{name}.{suffix}", [row(*pair) for pair in pairs(name.replace("_", " "))])
    files = [f"{name}.{suffix}" for name, (_, suffix) in LAYOUTS.items()]
    found = json.loads(winnow("init", *files, "--json", folder=tmp_path).stdout)
    assert [source["name"] for source in found["sources"]] == list(LAYOUTS)
    answer = json.loads(winnow("build", "recipe.yaml", *LOCAL, "--json", folder=tmp_path).stdout)
    rows = corpus(answer)
    for name in LAYOUTS:
        own = {(row["instruction"].removeprefix("Größe: "), row["response"]) for row in rows if row["source"] == name}
        assert own == set(pairs(name.replace("_", " "))), name


def test_columns_with_unknown_names_are_asked_for_and_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "fragen.csv").write_text("nr;frage;antwort\n1;Was ist ein Fluss?;Ein Gewässer.\n", encoding="utf-8")
    refused = winnow("init", "fragen.csv", folder=tmp_path, check=2).stderr
    assert "fragen.csv" in refused and "--columns instruction=frage,response=antwort" in refused
    assert not (tmp_path / "recipe.yaml").exists()
    options = ("--columns", "instruction=frage,response=antwort")
    assert "Ein Gewässer." in winnow("init", "fragen.csv", *options, folder=tmp_path).stdout
    kept = (tmp_path / "recipe.yaml").read_bytes()
    assert "--force" in winnow("init", "fragen.csv", *options, folder=tmp_path, check=2).stderr
    assert (tmp_path / "recipe.yaml").read_bytes() == kept
    answer = json.loads(winnow("build", "fragen.csv", *options, *LOCAL, "--json", folder=tmp_path).stdout)
    assert answer["rows_kept"] == 1


def test_a_recipe_and_files_are_not_built_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nWhat is it?,A river.\n", encoding="utf-8")
    winnow("init", "a.csv", folder=tmp_path)
    assert "build it alone" in winnow("build", "recipe.yaml", "a.csv", folder=tmp_path, check=2).stderr

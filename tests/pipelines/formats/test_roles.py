"""The columns of a file are guessed by their names and first values, in every format alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import RecipeError
from pipelines.formats.roles import guess_columns, parse_columns, written_columns

ASKED, ANSWERED = "What is a river, and where does it go?", "A river is water that flows to the sea."
OPENAI = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
SHAREGPT = [{"from": "human", "value": ASKED}, {"from": "gpt", "value": ANSWERED}]

GUESSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alpaca": (
        {"instruction": ASKED, "input": "", "output": ANSWERED},
        {"instruction": ("instruction", "input"), "response": "output"},
    ),
    "dolly": (
        {"instruction": ASKED, "context": "Rivers.", "response": ANSWERED, "category": "open_qa"},
        {"instruction": ("instruction", "context"), "response": "response"},
    ),
    "orca": (
        {"id": "t0.1", "system_prompt": "Be brief.", "question": ASKED, "response": ANSWERED},
        {"instruction": ("system_prompt", "question"), "response": "response"},
    ),
    "sharegpt": ({"conversations": SHAREGPT}, {"messages": "conversations"}),
    "messages": ({"prompt": ASKED, "prompt_id": "a7", "messages": OPENAI}, {"messages": "messages"}),
    "conversation under another name": ({"dialog_history": OPENAI}, {"messages": "dialog_history"}),
    "conversation as JSON text": ({"chat": json.dumps(OPENAI)}, {"messages": "chat"}),
    "reasoning of a turn": (
        {"messages": [OPENAI[0], OPENAI[1] | {"reasoning_content": "Let me think."}]},
        {"messages": "messages", "thinking": "reasoning_content"},
    ),
    "prompt and completion as turns": (
        {"prompt": OPENAI[:1], "completion": OPENAI[1:]},
        {"instruction": "prompt.0.content", "response": "completion.0.content"},
    ),
    "completions": ({"prompt": ASKED, "completion": ANSWERED}, {"instruction": "prompt", "response": "completion"}),
    "sums": ({"prompt": "2+2", "completion": "4"}, {"instruction": "prompt", "response": "completion"}),
    "answers as numbers": ({"question": ASKED, "answer": 42}, {"instruction": "question", "response": "answer"}),
    "scores, ids and addresses": (
        {"id": 3, "query": ASKED, "response": ANSWERED, "answer_score": 0.5, "prompt_url": "http://x.y/z"},
        {"instruction": "query", "response": "response"},
    ),
    "other cases": ({"Question": ASKED, "ANSWER": ANSWERED}, {"instruction": "Question", "response": "ANSWER"}),
    "other spellings": (
        {"userPrompt": ASKED, "Model Response": ANSWERED, "model": "gpt-4"},
        {"instruction": "userPrompt", "response": "Model Response"},
    ),
    "plurals": ({"inputs": ASKED, "targets": ANSWERED}, {"instruction": "inputs", "response": "targets"}),
    "nested": ({"qa": {"q": ASKED, "a": ANSWERED}, "n": 1}, {"instruction": "qa.q", "response": "qa.a"}),
    "squad": (
        {"context": "Rivers are long.", "question": ASKED, "answers": {"text": ["to sea"], "answer_start": [1]}},
        {"instruction": ("question", "context"), "response": "answers.text.0"},
    ),
    "self-instruct": (
        {"instruction": ASKED, "instances": [{"input": "now", "output": ANSWERED}]},
        {"instruction": ("instruction", "instances.0.input"), "response": "instances.0.output"},
    ),
    "preferences": (
        {"prompt": ASKED, "chosen": ANSWERED, "rejected": "No."},
        {"instruction": "prompt", "response": "chosen"},
    ),
    "preferences as turns": ({"prompt": ASKED, "chosen": OPENAI, "rejected": SHAREGPT}, {"messages": "chosen"}),
    "problems with steps": (
        {"problem": ASKED, "answer": "7", "solution": ANSWERED},
        {"instruction": "problem", "response": "solution"},
    ),
    "reasoning in a column": (
        {"question": ASKED, "thinking": "Let me think.", "answer": ANSWERED},
        {"instruction": "question", "response": "answer", "thinking": "thinking"},
    ),
    "an address under the name of an answer": (
        {"question": ASKED, "output": "https://example.com/1", "reply": ANSWERED},
        {"instruction": "question", "response": "reply"},
    ),
    "tags of HRM-Text": (
        {"condition": "cot,synth", "instruction": ASKED, "response": ANSWERED},
        {"instruction": "instruction", "response": "response", "condition": "condition"},
    ),
    "text": ({"url": "https://example.com/1", "text": ASKED}, {"text": "text"}),
}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", GUESSED)
def test_a_layout_is_guessed_in_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    row, expected = GUESSED[name]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([row, row]), path)
    else:
        path.write_text(json.dumps([row, row]) if suffix == "json" else f"{json.dumps(row)}\n" * 2, encoding="utf-8")
    assert guess_columns(str(path)) == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_columns_of_delimited_files_are_guessed_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        delimiter.join(["nr", "Question", "Answer"]) + "\n" + delimiter.join(["1", ASKED[:12], "42"]) + "\n"
    )
    assert guess_columns(str(path)) == {"instruction": "Question", "response": "Answer"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"frage": ASKED, "antwort": ANSWERED},
            "columns: frage, antwort.*--columns instruction=frage,response=antwort",
        ),
        ({"kind": "qa", "question": ASKED, "reaction": ANSWERED}, "--columns instruction=question,response=reaction"),
        ({"instruction": ASKED, "input": "", "response1": ANSWERED}, "instruction=instruction,response=response1"),
        ({"a": 1, "b": 2}, r"columns: a, b.*--columns instruction=question,response=answer"),
        ({"log": [{"speaker": "x", "text": "hi"}, {"speaker": "y", "text": "ho"}]}, "'log' is a conversation.*speaker"),
    ],
)
def test_what_cannot_be_told_is_asked_for_with_the_columns_of_the_file(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 2, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        guess_columns(str(path))


@pytest.mark.parametrize("name", ["sharegpt", "messages"])
def test_a_conversation_that_is_the_only_row_is_no_list_of_rows(name: str, tmp_path: Path) -> None:
    row, expected = GUESSED[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert guess_columns(str(path)) == expected


def test_a_file_without_a_line_of_names_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(f"{ASKED * 3}\t{ANSWERED}\n{ASKED}\t{ANSWERED}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="first line is read as the names of the columns, but looks like a row"):
        guess_columns(str(path))


def test_the_option_is_written_as_it_is_read() -> None:
    columns = {"instruction": ("instruction", "input"), "response": "output"}
    assert parse_columns(written_columns(columns)) == columns


@pytest.mark.parametrize("header", [",question,answer", "question,answer,", "???,question,answer"])
def test_a_column_without_a_word_in_its_name_is_not_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "export.csv"
    place = [name == "question" for name in header.split(",")].index(True)
    values = ["0"] * 3
    values[place : place + 2] = ['"What is a river?"', "Water."]
    path.write_text(header + "\n" + ",".join(values) + "\n")
    assert guess_columns(str(path)) == {"instruction": "question", "response": "answer"}

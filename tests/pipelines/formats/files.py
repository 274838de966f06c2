"""The same rows written in every format, and a reader for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats.read import read, text_columns

QA = text_columns("question", "answer")


ROWS = [{"question": f"What is {i} + {i}?", "answer": f"It is {2 * i} – naïvely", "other": [i]} for i in range(50)]


def rows_of(path: Path, columns: pa.Schema = QA, **options: Any) -> list[dict[str, Any]]:
    return pa.concat_tables(list(read(str(path), columns, **options))).to_pylist()


def answers(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    return [(row["row"], row["fault"], row["question"], row["answer"]) for row in rows_of(path, **options)]


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=2))


def as_json_holder(path: Path) -> None:
    path.write_text(
        json.dumps({"version": [1, 2], "meta": {"list": [{"question": "no"}]}, "rows": ROWS, "after": [{}]})
    )


def as_json_that_is_jsonl(path: Path) -> None:
    as_jsonl(path)


def as_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["other", "question", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)


def as_tsv(path: Path) -> None:
    path.write_text("question\tanswer\n" + "".join(f"{row['question']}\t{row['answer']}\n" for row in ROWS))


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)


def as_arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


def as_arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


WRITERS: list[tuple[str, Callable[[Path], None]]] = [
    ("a.jsonl", as_jsonl),
    ("a.ndjson", as_jsonl),
    ("a.json", as_json),
    ("a.json", as_json_holder),
    ("a.json", as_json_that_is_jsonl),
    ("a.csv", as_csv),
    ("a.tsv", as_tsv),
    ("a.parquet", as_parquet),
    ("a.arrow", as_arrow_file),
    ("a.arrow", as_arrow_stream),
]

"""Each source on a sample in the schema of its data set: the records that it gives, and the rows that it leaves out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import InputError
from pipelines.records import conform
from pipelines.sources import SOURCES
from pipelines.sources.competition_math import last_boxed
from pipelines.steps.sampling import ID
from tests.pipelines.sources.samples.every import RULED, SAMPLES
from tests.pipelines.sources.samples.sample import read, write


@pytest.mark.parametrize(("name", "file", "rows", "expected"), SAMPLES, ids=[sample.source for sample in SAMPLES])
def test_a_sample_in_the_upstream_schema(
    tmp_path: Path, name: str, file: str, rows: Any, expected: list[tuple[Any, ...]]
) -> None:
    keys = ("row", "variant", "condition", "instruction", "response")
    raw = read(name, write(tmp_path / file, rows))
    assert all(row["fault"] is None for row in raw)
    assert [tuple(row[key] for key in keys) for row in raw] == expected


@pytest.mark.parametrize(
    ("name", "file", "rows", "kept", "dropped"),
    RULED,
    ids=[f"{sample.source}:{sample.file.split('/')[-1]}" for sample in RULED],
)
def test_the_rules_of_a_source_on_a_sample_in_the_upstream_schema(
    tmp_path: Path, name: str, file: str, rows: Any, kept: dict[str, Any], dropped: dict[str, str]
) -> None:
    source = SOURCES[name]
    assert source.read is not None
    path = write(tmp_path / file, rows)
    outcomes = [conform(table, "s", "f", "drop") for table in source.read(str(path))]
    records = [row for outcome in outcomes for row in outcome.kept.to_pylist()]
    dropped_rows = [row for outcome in outcomes for row in outcome.dropped.to_pylist()]
    assert {row["id"]: (row["condition"], row["instruction"], row["response"]) for row in records} == kept
    assert {row["id"]: f"{row['stage']}/{row['reason']}" for row in dropped_rows} == dropped
    assert len(records) + len(dropped_rows) == len(kept) + len(dropped)  # no id twice


@pytest.mark.parametrize("name", [source.name for source in SOURCES.values() if source.path])
def test_a_row_that_a_rule_leaves_out_is_not_bad(tmp_path: Path, name: str) -> None:
    """`on_bad_row: fail` fails for broken rows, not for rows that a rule leaves out."""
    for sample, file, rows, _, dropped in RULED:
        bad = any(reason.startswith("conform/") for reason in dropped.values())
        if sample == name and not bad:
            source = SOURCES[name]
            assert source.read is not None
            for table in source.read(str(write(tmp_path / file, rows))):
                conform(table, "s", "f", "fail")


def test_the_id_of_a_row_contains_the_task_that_is_sampled() -> None:
    ids = [record for sample in RULED for record in sample.kept]
    files = {re.match(ID, record)["file"] for record in ids}  # type: ignore[index]
    assert files >= {
        "s/cot_fsopt_data__cot_gsm8k",
        "s/WANLI",
        "s/direct",
        "s/train-easy__a",
        "s/algebra_factoring",
        "s/f",
    }
    assert not [file for file in files if file.endswith(("/0", "/1", "/f.direct"))]


def test_a_file_of_flan_outside_its_folders_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "FLAN" / "part.0.parquet", [{"inputs": "q", "targets": "a", "_task_name": "t"}])
    with pytest.raises(InputError, match=r"part\.0\.parquet: its folder should be one of FLAN's submixes"):
        list(SOURCES["flan"].read(str(path)))  # type: ignore[misc]


def test_the_error_for_a_truncated_archive_names_it(tmp_path: Path) -> None:
    sample = next(sample for sample in RULED if sample.source == "amps_mathematica")
    path = write(
        tmp_path / "amps.tar.gz", sample.rows | {f"amps/mathematica/a/b/{n}.txt": bytes(9999) for n in range(9)}
    )
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"amps\.tar\.gz: truncated or damaged"):
        list(SOURCES["amps_mathematica"].read(str(path)))  # type: ignore[misc]


def test_questions_and_answers_on_lines_are_paired_across_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "train-medium" / "many.txt", "".join(f"q{n}\na{n}\n" for n in range(100_000)))
    source = SOURCES["dmmath"]
    assert source.read is not None
    tables = list(source.read(str(path)))
    rows = pa.concat_tables(tables)
    assert len(tables) > 1 and rows["row"].to_pylist() == list(range(100_000))
    numbers = [[int(text[1:]) for text in rows[name].to_pylist()] for name in ("instruction", "response")]
    assert numbers == [list(range(100_000))] * 2


def test_a_row_without_what_the_source_needs_is_dropped_with_a_reason(tmp_path: Path) -> None:
    samples = {
        "gsm8k": [{"question": "q", "answer": "no mark"}, {"question": "q", "answer": "x #### 1"}],
        "theoremqa": [{"Question": "q", "Answer": 1, "Picture": "images/x.png"}, {"Question": "q", "Answer": None}],
        "self_instruct_seeds": [{"instruction": "i", "instances": []}],
        "reasoning_gym_eval": [
            {"question": "q", "code": []},
            {"question": "q", "code": None},
            {"question": "q", "code": ["a"]},
        ],
        "math": [{"problem": "p", "solution": "no box"}],
    }
    expected = {
        "gsm8k": ["null_response"],
        "theoremqa": ["needs_picture", "null_response"],
        "self_instruct_seeds": ["no_instances"],
        "reasoning_gym_eval": ["null_response", "null_response"],
        "math": ["null_response"],
    }
    for name, rows in samples.items():
        source = SOURCES[name]
        assert source.read is not None
        path = write(tmp_path / f"{name}.jsonl", rows)
        dropped = [conform(table, name, "x").dropped for table in source.read(str(path))]
        assert [reason for table in dropped for reason in table["reason"].to_pylist()] == expected[name]


@pytest.mark.parametrize(
    ("solution", "boxed"),
    [
        (r"\boxed{1} and \boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"\boxed 12$.", "12"),
        (r"\boxed{open", None),
        (r"\boxed", None),
        ("nothing", None),
        (None, None),
        (r"\fbox{x}", "x"),
    ],
)
def test_the_content_of_the_last_box(solution: str | None, boxed: str | None) -> None:
    assert last_boxed(solution) == boxed

"""Ingest: sources become records, every row accounted for, and a mistake is told before anything is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError, RecipeError, RecordError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.plan import plan
from pipelines.recipe import Recipe
from pipelines.records import DROPPED, MAX_TEXT_BYTES, RECORD
from pipelines.sources import SOURCES
from pipelines.steps import ingest as ingesting
from pipelines.steps.ingest import by_source, ingest, unread_by_source
from pipelines.steps.source_files import plan_inputs

PAIRS = {"instruction": "q", "response": "a"}


def recipe(*sources: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.model_validate({"name": "test", "sources": list(sources), **more})


def pairs(path: Path | list[Path], name: str = "mine", **more: Any) -> dict[str, Any]:
    paths = [str(one) for one in path] if isinstance(path, list) else str(path)
    return {"name": name, "path": paths, "columns": PAIRS, "condition": "direct", **more}


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"q": f"question {i}", "a": f"answer {i}"} for i in range(start, start + count)]


def read_all(shards: tuple[storage.TableRef, ...], schema: pa.Schema) -> list[dict[str, Any]]:
    tables = [storage.read_parquet(shard.path) for shard in shards]
    assert all(table.schema.equals(schema) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def kept(manifest: Manifest) -> list[dict[str, Any]]:
    return read_all(manifest.shards, RECORD)


def dropped(manifest: Manifest) -> list[dict[str, Any]]:
    return read_all(manifest.dropped, DROPPED)


def run(root: Path, workers: int = 1) -> Run:
    return Run(str(root), LocalEngine(workers))


def made(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_records_carry_their_source_file_and_row(tmp_path: Path) -> None:
    file = write(tmp_path / "data" / "a.jsonl", questions(3))
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(file)))
    assert [
        (row["id"], row["source"], row["condition"], row["instruction"], row["response"]) for row in kept(manifest)
    ] == [(f"mine/a/{i}", "mine", "direct", f"question {i}", f"answer {i}") for i in range(3)]
    assert len({row["digest"] for row in kept(manifest)}) == 3


def test_bad_rows_are_dropped_with_their_number_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b'{"q": "x", "a": "y"}\n{"q": "x", "a": null}\n{broken\n{"q": "\xff", "a": "y"}\n'
        b'{"a": "y"}\n{"q": "x", "a": []}\n'
    )
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(file)))
    assert manifest.rows_in == 6 and manifest.rows_kept == 1
    assert manifest.counts == {
        "conform/broken_json": 1,
        "conform/invalid_utf8": 1,
        "conform/null_instruction": 1,
        "conform/null_response": 1,
        "conform/wrong_type": 1,
    }
    reasons = {row["id"]: row["reason"] for row in dropped(manifest)}
    assert reasons == {
        "mine/a/1": "null_response",
        "mine/a/2": "broken_json",
        "mine/a/3": "invalid_utf8",
        "mine/a/4": "null_instruction",
        "mine/a/5": "wrong_type",
    }
    assert json.loads(dropped(manifest)[1]["evidence"])["row"] == 2


def test_a_bad_row_fails_where_the_recipe_says_so(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [*questions(2), {"q": "x", "a": None}])
    with pytest.raises(RecordError, match=r"mine: a: row 2: null_response .*on_bad_row: drop"):
        ingest(run(tmp_path / "root"), recipe(pairs(file), on_bad_row="fail"))


def test_an_unknown_tag_in_a_column_is_a_dropped_row(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "response": "a", "condition": tag} for tag in ("synth,cot", "cto", None, "direct")]
    manifest = ingest(run(tmp_path / "root"), recipe({"name": "mine", "path": str(write(tmp_path / "a.jsonl", rows))}))
    assert [row["condition"] for row in kept(manifest)] == ["synth,cot", "direct"]
    assert manifest.counts == {"conform/unknown_condition": 2}


def test_a_response_of_60_mb_is_dropped_as_oversize(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"q": "x", "a": "y"}, {"q": "x", "a": "y" * 60_000_000}, {"q": "x", "a": "z"}])
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(file)))
    assert [row["response"] for row in kept(manifest)] == ["y", "z"]
    assert manifest.counts == {"conform/oversize": 1}
    assert json.loads(dropped(manifest)[0]["evidence"])["bytes"] > MAX_TEXT_BYTES


def test_a_source_without_rows_is_legal_and_told(tmp_path: Path) -> None:
    empty, full = write(tmp_path / "a.jsonl", []), write(tmp_path / "b.jsonl", [{"q": None, "a": "y"}, *questions(1)])
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(empty, "empty"), pairs(full, "full")))
    assert by_source(manifest) == {"empty": (0, 0), "full": (2, 1)}


def test_two_files_of_a_source_never_share_ids(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "a.jsonl", tmp_path / "y" / "a.jsonl", tmp_path / "y" / "b.jsonl"]
    for path in paths:
        write(path, questions(2))
    (tmp_path / "y" / "b.jsonl.gz").write_bytes(gzip.compress(paths[2].read_bytes()))
    manifest = ingest(run(tmp_path / "root"), recipe(pairs([tmp_path / "x", tmp_path / "y" / "*"])))
    files = [row["id"].removeprefix("mine/").rsplit("/", 1)[0] for row in kept(manifest)]
    assert list(dict.fromkeys(files)) == ["x/a", "y/a", "y/b.jsonl", "y/b.jsonl.gz"]
    assert len({row["id"] for row in kept(manifest)}) == 8


def test_a_file_that_two_patterns_name_is_read_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", questions(2))
    assert ingest(run(tmp_path / "root"), recipe(pairs([file, tmp_path / "*.jsonl"]))).rows_in == 2


def test_a_cap_runs_over_the_files_in_order(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.jsonl", questions(4, start)) for name, start in (("a", 0), ("b", 4), ("c", 8))]
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(files, rows=6), pairs(files[0], "other")))
    assert [row["id"] for row in kept(manifest)][:6] == [
        "mine/a/0",
        "mine/a/1",
        "mine/a/2",
        "mine/a/3",
        "mine/b/0",
        "mine/b/1",
    ]
    assert by_source(manifest) == {"mine": (6, 6), "other": (4, 4)}


def test_shards_are_bounded_in_rows_and_bytes(tmp_path: Path) -> None:
    many = write(tmp_path / "many.jsonl", questions(ingesting.SHARD_ROWS + 10))
    wide = write(tmp_path / "wide.jsonl", [{"q": str(i), "a": "y" * 4_000_000} for i in range(11)])
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(many, "many"), pairs(wide, "wide")))
    sizes = [storage.read_parquet(shard.path) for shard in manifest.shards]
    assert [table.num_rows for table in sizes[:2]] == [ingesting.SHARD_ROWS, 10]
    assert all(table.nbytes < ingesting.SHARD_BYTES + 12_000_000 for table in sizes) and len(sizes) == 4
    assert [row["instruction"] for table in sizes[2:] for row in table.to_pylist()] == [str(i) for i in range(11)]


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    for index in range(5):
        write(tmp_path / "data" / f"{index}.jsonl", [*questions(200 * index), "bad"])
    made = []
    for workers in (1, 2):
        with LocalEngine(workers) as engine:
            made.append(ingest(Run(str(tmp_path / f"root{workers}"), engine), recipe(pairs(tmp_path / "data"))))
    one, two = ([(Path(shard.path).name, shard.digest) for shard in (*m.shards, *m.dropped)] for m in made)
    assert one == two and len(one) == 9


def test_a_moved_file_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    here, there = write(tmp_path / "x" / "a.jsonl", questions(3)), write(tmp_path / "y" / "a.jsonl", questions(3))
    where = run(tmp_path / "root")
    first = ingest(where, recipe(pairs(here)))
    assert ingest(where, recipe(pairs(there, priority=5))).key == first.key
    assert [performed.reused for performed in where.results] == [False, True]
    for changed in (
        recipe(pairs(here, "theirs")),
        recipe(pairs(here, rows=2)),
        recipe(pairs(here, condition="cot")),
        recipe(pairs(here, columns={"instruction": "a", "response": "q"})),
        recipe(pairs(here), on_bad_row="fail"),
    ):
        assert ingest(where, changed).key != first.key
    write(here, questions(4))
    assert ingest(where, recipe(pairs(here))).key != first.key


def test_a_computed_source_takes_its_rows_from_the_seed(tmp_path: Path) -> None:
    name = next(source.name for source in SOURCES.values() if source.generate is not None)
    source = {"name": "made", "adapter": name, "rows": 7}
    where = run(tmp_path / "root")
    first, again, other = (ingest(where, recipe(source, seed=seed)) for seed in (0, 0, 1))
    assert first.rows_in == other.rows_in == 7 and first.key == again.key != other.key
    assert kept(first)[0]["id"].startswith("made/generated/")


def test_a_condition_in_the_recipe_overrides_the_adapter(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "work\n#### 1,234"}]
    source = {
        "name": "g",
        "adapter": "gsm8k",
        "path": str(write(tmp_path / "a.jsonl", rows)),
        "condition": "noisy,direct",
    }
    (row,) = kept(ingest(run(tmp_path / "root"), recipe(source)))
    assert (row["condition"], row["response"]) == ("noisy,direct", "1234")


# Several columns, and columns that are not read

ALPACA = [
    {"instruction": "Add.", "input": "1, 2", "output": "3", "id": "r0"},
    {"instruction": "Say hi.", "input": "", "output": "Hi.", "id": "r1"},
    {"instruction": "Say ho.", "output": "Ho.", "id": "r2"},
    {"instruction": None, "input": "only", "output": "x", "id": "r3"},
    {"instruction": None, "input": None, "output": "x", "id": "r4"},
]
JOINED = {"instruction": ["instruction", "input"], "response": "output"}


def test_a_part_may_be_read_from_several_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ALPACA)
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(file, columns=JOINED)))
    assert [row["instruction"] for row in kept(manifest)] == ["Add.\n\n1, 2", "Say hi.", "Say ho.", "only"]
    assert [row["reason"] for row in dropped(manifest)] == ["null_instruction"]


def test_columns_with_text_that_are_not_read_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ALPACA)
    only_output = {"instruction": "instruction", "response": "output"}
    for columns, unread in ((only_output, ("input", "id")), (JOINED, ("id",))):
        asked = recipe(pairs(file, columns=columns))
        assert unread_by_source(ingest(run(tmp_path / "root"), asked)) == {"mine": unread}
        assert plan(asked).unread_columns == {"mine": unread}
    empty = write(tmp_path / "b.jsonl", [{"q": "x", "a": "y", "input": "", "n": 7, "flag": True}])
    assert unread_by_source(ingest(run(tmp_path / "root"), recipe(pairs(empty)))) == {}


def test_a_further_column_must_be_in_one_file_of_the_source(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.jsonl", [ALPACA[2]]), write(tmp_path / "b.jsonl", [ALPACA[0]])
    manifest = ingest(run(tmp_path / "root"), recipe(pairs([one, other], columns=JOINED)))
    assert manifest.rows_kept == 2
    with pytest.raises(InputError, match=r"a\.jsonl: no column 'input'"):
        ingest(run(tmp_path / "root"), recipe(pairs(one, columns=JOINED)))
    thinking = {**PAIRS, "thinking": "reasonin"}
    file = write(tmp_path / "c.jsonl", [{"q": "x", "a": "y"}] * 3000 + [{"q": "x", "a": "y", "reasoning": "hm"}])
    with pytest.raises(InputError, match=r"no column 'reasonin' "):
        ingest(run(tmp_path / "root"), recipe(pairs(file, columns=thinking)))
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(file, columns={**PAIRS, "thinking": "reasoning"})))
    assert [row["response"] for row in kept(manifest) if "hm" in row["response"]] == [
        "<reasoning_content>\nhm\n</reasoning_content>\n\ny"
    ]


# Folders


def test_a_folder_of_save_to_disk_is_its_rows(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "set"
    datasets.Dataset.from_list(questions(20)).save_to_disk(str(folder), num_shards=3)
    table = pa.Table.from_pylist(questions(5))
    with pa.ipc.new_stream(str(folder / "cache-1a2b.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert {"state.json", "dataset_info.json"} <= {file.name for file in folder.iterdir()}
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(folder)))
    assert [row["instruction"] for row in kept(manifest)] == [row["q"] for row in questions(20)]


def test_of_a_folder_with_several_splits_one_is_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    train, test = (datasets.Dataset.from_list(questions(count)) for count in (20, 5))
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path / "both"))
    datasets.DatasetDict({"train": train}).save_to_disk(str(tmp_path / "one"))
    with pytest.raises(InputError, match=r"splits train, test; name one: .*/both/train"):
        ingest(run(tmp_path / "root"), recipe(pairs(tmp_path / "both")))
    for folder in (tmp_path / "both" / "train", tmp_path / "one"):
        assert len(kept(ingest(run(tmp_path / "root"), recipe(pairs(folder))))) == 20


def test_hidden_files_and_descriptions_in_a_folder_are_no_rows(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write(folder / "a.jsonl", questions(2))
    for name in (
        ".DS_Store",
        ".git/config.jsonl",
        ".cache/b.jsonl",
        "README.md",
        "LICENSE",
        "_SUCCESS",
        ".a.jsonl.crc",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no rows")
    for path in (folder, folder / "*", folder / "*.jsonl"):
        assert [file.file for file in plan_inputs(recipe(pairs(path)))] == ["a"]
    (folder / "a.jsonl").unlink()
    with pytest.raises(InputError, match=r"set: no files of rows"):
        ingest(run(tmp_path / "root"), recipe(pairs(folder)))


def test_a_file_of_an_unknown_format_in_a_folder_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.jsonl", questions(2))
    (tmp_path / "set" / "b.jsonl.xz").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.jsonl\.xz: unknown format"):
        ingest(run(tmp_path / "root"), recipe(pairs(tmp_path / "set")))


def test_a_recipe_may_say_how_files_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes('q\ta\nx\t"12 caf\xe9\ny\t6"\n'.encode("cp1252"))
    manifest = ingest(run(tmp_path / "root"), recipe(pairs(tmp_path / "a.tsv", encoding="cp1252", quoted=False)))
    assert [row["response"] for row in kept(manifest)] == ['"12 café', '6"']


# Mistakes, told before anything is written


def test_a_missing_file_is_told_before_anything_is_written(tmp_path: Path) -> None:
    there = write(tmp_path / "a.jsonl", questions(1))
    asked = recipe(pairs(there), pairs(tmp_path / "nowhere.jsonl", "lost"))
    with pytest.raises(InputError, match=r"source 'lost': .*nowhere\.jsonl: no such file"):
        ingest(run(tmp_path / "root"), asked)
    assert made(tmp_path / "root") == []
    assert [(one.source, one.missing) for one in plan_inputs(asked)] == [("mine", False), ("lost", True)]


def test_a_misnamed_column_is_told_before_anything_is_written(tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", questions(1))
    pq.write_table(pa.table({"prompt": ["x"], "answer": ["y"]}), tmp_path / "b.parquet")
    wrong = pairs(tmp_path / "b.parquet", "other", columns={"instruction": "promt", "response": "answer"})
    with pytest.raises(
        InputError, match=r"b\.parquet: no column 'promt' \(the file has: prompt, answer\); did you mean 'prompt'"
    ):
        ingest(run(tmp_path / "root"), recipe(pairs(good), wrong))
    assert made(tmp_path / "root") == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
@pytest.mark.fault("a truncated input file", "no manifest")
def test_a_truncated_file_leaves_no_manifest(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in questions(50_000)).encode()))
    else:
        pq.write_table(pa.Table.from_pylist(questions(50_000)), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=rf"{name}: truncated or damaged after its first \d+ rows"):
        ingest(run(tmp_path / "root"), recipe(pairs(path)))
    assert not list((tmp_path / "root").rglob("manifest.json"))


MISTAKES = [
    ({"adapter": "gsm8", "path": "x"}, r"unknown adapter 'gsm8'; did you mean 'gsm8k'"),
    ({"adapter": "gsm8k"}, r"reads files; give their `path`"),
    ({"adapter": "gsm8k", "path": "x", "columns": PAIRS}, r"knows its columns; leave out `columns`"),
    ({}, r"give it a `path`"),
    ({"path": "x", "columns": PAIRS}, r"say the `condition` of its rows"),
    ({"path": "x", "columns": PAIRS, "condition": "synth, cot"}, r"unknown tag ' cot'; did you mean 'cot'"),
    ({"path": "x", "columns": {"instruction": "q"}, "condition": "cot"}, r"'response' is missing"),
    (
        {"path": "x", "columns": {"instructions": "q"}, "condition": "cot"},
        r"unknown key 'instructions'; did you mean 'instruction'",
    ),
    ({"path": "x", "columns": {"messages": "m", "response": "a"}, "condition": "cot"}, r"or `text` alone"),
    ({"path": "x", "columns": {"messages": ["m", "n"]}, "condition": "cot"}, r"messages is one column"),
    ({"path": "x", "columns": {**PAIRS, "response": []}, "condition": "cot"}, r"response: name one column"),
    (
        {"path": "x", "columns": PAIRS, "condition": "cot", "encoding": "cp1253x"},
        r"unknown encoding .*did you mean 'cp125",
    ),
    ({"adapter": "gsm8k", "path": "x", "quoted": False}, r"knows its quoted; leave out `quoted`"),
]


@pytest.mark.parametrize(("keys", "message"), MISTAKES)
def test_keys_that_do_not_go_together_are_told(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"source 'mine': .*{message}"):
        plan_inputs(recipe({"name": "mine", **keys}))


def test_a_computed_source_needs_rows_and_no_path() -> None:
    name = next(source.name for source in SOURCES.values() if source.generate is not None)
    with pytest.raises(RecipeError, match="say how many"):
        plan_inputs(recipe({"name": "made", "adapter": name}))
    with pytest.raises(RecipeError, match="leave out `path`"):
        plan_inputs(recipe({"name": "made", "adapter": name, "rows": 1, "path": "x"}))

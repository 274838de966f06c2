"""Selections: a file that holds rows of another one reads as these rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import storage
from pipelines.ledger.storage import TableRef

NAMES = ["id", "instruction", "response", "score"]


def path_of(root: str, step: str) -> str:
    """The path of the first shard of a step."""
    return storage.join(root, "steps", step, "shards", "part-00000.parquet")


def base_of(root: str, rows: int = 3_000) -> tuple[TableRef, pa.Table]:
    """A shard of `rows` records below a root, and its table."""
    numbers = np.arange(rows)
    table = pa.table(
        {
            "id": [f"s/{number}" for number in numbers],
            "instruction": pa.array([f"question {number}" if number % 7 else None for number in numbers], pa.string()),
            "response": ["x" * int(number % 11) for number in numbers],
            "score": numbers / 2,
        }
    )
    return storage.write_parquet(path_of(root, "refine-0"), table), table


def select(
    root: str, step: str, of: TableRef, table: pa.Table, stays: np.ndarray, changed: np.ndarray | None = None
) -> tuple[TableRef, pa.Table]:
    """A selection of the rows of a file that holds `table`, and the table that it stands for. changed: of the rows that
    stay, which get another instruction and response, some without an instruction."""
    rows = pa.array(np.flatnonzero(stays))
    expected = table.take(rows).combine_chunks()
    changes = None
    if changed is not None:
        mask = pa.array(changed, pa.bool_())
        texts = {
            "instruction": pa.array([f"{step} {row}" if row % 3 else None for row in range(len(rows))], pa.string()),
            "response": pa.array([f"{step}!" * (row % 4) for row in range(len(rows))], pa.string()),
        }
        changes = storage.Changes(mask, pa.table(texts))
        for name, column in texts.items():
            anew = pc.if_else(mask, column, expected[name].combine_chunks())
            expected = expected.set_column(NAMES.index(name), expected.schema.field(name), anew)
    own = expected.select(["id"])
    return storage.write_selection(path_of(root, step), of, rows, own, changes), expected.combine_chunks()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0, 1), min_size=1, max_size=4), st.data())
def test_a_selection_of_selections_reads_as_the_rows_that_were_kept_and_as_they_were_changed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shares: list[float], data: st.DataObject
) -> None:
    root = str(tmp_path_factory.mktemp("root"))
    file, table = base_of(root, 200)
    generator = np.random.default_rng(seed)
    for number, share in enumerate(shares):
        stays = generator.random(table.num_rows) < share
        changed = generator.random(int(stays.sum())) < share if generator.random() < 0.5 else None
        file, table = select(root, f"drop-{number}", file, table, stays, changed)
    assert file.rows == storage.shape(file.path)[1] == table.num_rows
    assert storage.columns(file.path) == NAMES and storage.schema(file.path).equals(table.schema)
    assert storage.read_parquet(file.path).equals(table)
    names = data.draw(st.permutations(NAMES))[: data.draw(st.integers(1, 4))]
    assert storage.read_parquet(file.path, names).equals(table.select(names))
    some = pa.array(np.flatnonzero(generator.random(table.num_rows) < 0.3))
    assert storage.read_parquet(file.path, names, some).equals(table.select(names).take(some))
    if table.num_rows:
        row = data.draw(st.integers(0, table.num_rows - 1))
        assert storage.read_row(file.path, row, names) == table.select(names).slice(row, 1).to_pylist()[0]
        assert storage.read_row(file.path, row) == table.slice(row, 1).to_pylist()[0]


def test_columns_of_its_own_come_instead_of_those_of_the_file_or_after_them(tmp_path: Path) -> None:
    file, table = base_of(str(tmp_path), 50)
    rows = pa.array([1, 4, 30])
    own = pa.table({"id": ["s/1", "s/4", "s/30"], "score": [9.0, 8.0, 7.0], "label": ["a", "b", "c"]})
    first = storage.write_selection(path_of(str(tmp_path), "select-1"), file, rows, own)
    again = storage.write_selection(
        path_of(str(tmp_path), "drop-1"), first, pa.array([0, 2]), own.select(["id"]).take([0, 2])
    )
    expected = table.take(rows).set_column(3, "score", own["score"]).append_column("label", own["label"])
    assert storage.read_parquet(first.path).equals(expected)
    assert (
        storage.read_parquet(again.path).to_pylist()
        == expected.take([0, 2]).select(storage.columns(again.path)).to_pylist()
    )
    assert storage.read_row(again.path, 1, ["label", "response"]) == {"label": "c", "response": "x" * 8}


def test_a_selection_is_small_and_says_of_which_file(tmp_path: Path) -> None:
    file, table = base_of(str(tmp_path), 50_000)
    small, _ = select(str(tmp_path), "drop-1", file, table, np.arange(table.num_rows) % 10 > 0)
    assert small.bytes < 4 * small.rows


def test_a_selection_is_read_after_its_root_was_moved(tmp_path: Path) -> None:
    file, table = base_of(str(tmp_path / "before"), 100)
    one, expected = select(str(tmp_path / "before"), "drop-1", file, table, np.arange(100) % 2 == 0)
    (tmp_path / "before").rename(tmp_path / "after")
    moved = one.path.replace("/before/", "/after/")
    assert storage.read_parquet(moved).equals(expected)


def test_a_selection_of_a_file_that_changed_since_is_not_read(tmp_path: Path) -> None:
    file, table = base_of(str(tmp_path))
    one, _ = select(str(tmp_path), "drop-1", file, table, np.arange(table.num_rows) % 2 == 0)
    two, _ = select(str(tmp_path), "drop-2", one, storage.read_parquet(one.path), np.arange(one.rows) % 2 == 0)
    data = bytearray(Path(file.path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(file.path).write_bytes(data)
    for selection in (one, two):
        with storage.verified([selection]), pytest.raises(CheckFailed, match=r"refine-0/.*changed since"):
            storage.read_parquet(selection.path)
    Path(file.path).unlink()
    with pytest.raises(InputError, match="refine-0/"):
        storage.read_parquet(two.path)


def test_a_selection_on_an_object_store_reads_as_its_rows(s3: str) -> None:
    file, table = base_of(s3)
    one, expected = select(s3, "drop-1", file, table, np.arange(table.num_rows) % 3 == 0)
    two, fewer = select(s3, "drop-2", one, expected, np.arange(one.rows) % 2 == 0)
    with storage.verified([one, two]):
        assert storage.read_parquet(one.path).equals(expected)
        assert storage.read_parquet(two.path, ["response", "id"]).equals(fewer.select(["response", "id"]))
    assert storage.read_row(two.path, 5) == fewer.slice(5, 1).to_pylist()[0]


@pytest.mark.parametrize("path", ["/etc/passwd", "/steps/../../secret.parquet"])
def test_a_selection_of_what_is_no_file_of_a_step_is_refused(tmp_path: Path, path: str) -> None:
    file, table = base_of(str(tmp_path), 10)
    one, _ = select(str(tmp_path), "drop-1", file, table, np.ones(10, bool))
    forged = pq.read_table(one.path)
    named = json.dumps({**json.loads(forged.schema.metadata[storage.SELECTION_OF]), "path": path})
    pq.write_table(forged.replace_schema_metadata({storage.SELECTION_OF: named}), one.path)
    with pytest.raises(InputError, match="no file of a step"):
        storage.read_parquet(one.path)
    elsewhere = tmp_path / "given.parquet"  # a file of a user's says nothing of other files
    pq.write_table(pq.read_table(one.path), elsewhere)
    assert storage.read_parquet(str(elsewhere)).column_names == ["id", storage.POSITION]


def test_a_large_selection_on_an_object_store_is_read_in_part(s3: str) -> None:
    numbers = np.arange(120_000)
    noise = np.random.default_rng(0).bytes(120_000 * 24).hex()
    table = pa.table({"id": [f"s/{n}" for n in numbers], "response": [noise[48 * n : 48 * n + 48] for n in numbers]})
    file = storage.write_parquet(path_of(s3, "refine-0"), table)
    changes = storage.Changes(
        pa.array(numbers % 2 == 0), pa.table({"response": [noise[-48 * n - 48 :][:48] for n in numbers]})
    )
    one = storage.write_selection(path_of(s3, "drop-1"), file, pa.array(numbers), table.select(["id"]), changes)
    assert one.bytes > 2 * storage.PARQUET_TAIL
    for row in (0, 7, 119_998):
        expected = (changes.columns if row % 2 == 0 else table)["response"][row].as_py()
        assert storage.read_row(one.path, row, ["response"]) == {"response": expected}
        assert storage.read_row(one.path, row) == {"id": f"s/{row}", "response": expected}
    assert storage.read_parquet(one.path, ["id"])["id"].equals(table["id"])

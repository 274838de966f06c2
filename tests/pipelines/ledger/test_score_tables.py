"""A table of scores: made of chunks in any order, the same bytes after a kill, read only where ids fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import CheckFailed, RunError
from pipelines.ledger import score_tables, storage
from pipelines.ledger.score_tables import ScoreWriter, open_scores

ROWS = 1000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_tables, "PART_ROWS", 300)


def chunk(number: int) -> pa.Table:
    rows = np.random.default_rng(0).permutation(ROWS)[number * 250 : (number + 1) * 250]
    values = pa.array(rows.astype(np.float32), mask=rows % 7 == 0)
    kinds = pa.array([f"kind{row % 3}" for row in rows.tolist()])
    return pa.table({"id": [f"s/f/{row}" for row in rows.tolist()], "score_a": values, "a_class": kinds})


def make(root: Path, order: tuple[int, ...], settings: dict[str, object] | None = None) -> ScoreWriter:
    writer = ScoreWriter(str(root), "a", settings or {"corpus": "c", "model": "m"}, {"device": "cpu"})
    for number in order:
        writer.append(f"{number}", chunk(number))
    return writer


def finish(writer: ScoreWriter) -> score_tables.ScoreTable:
    return writer.finish(pa.concat_tables([writer.read(f"{n}") for n in range(4)]), {"limit": 3})


def content(folder: str) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in storage.files_below(folder)}


def test_lookup_gives_the_scores_of_ids_in_their_order_and_null_for_others(tmp_path: Path) -> None:
    table = finish(make(tmp_path, (0, 1, 2, 3)))
    assert (table.rows, len(table.files), table.columns.names) == (ROWS, 4, ["score_a", "a_class"])
    ids = [f"s/f/{row}" for row in (999, 7, 3, 3)] + ["s/f/none", "a", "z", None]
    found = table.lookup(pa.array(ids, pa.string()))
    assert found.schema.equals(table.columns)
    assert found["score_a"].to_pylist() == [999, None, 3, 3, None, None, None, None]
    assert found["a_class"].to_pylist() == ["kind0", "kind1", "kind0", "kind0", None, None, None, None]
    everything = table.read()
    assert everything["id"].to_pylist() == sorted(everything["id"].to_pylist())
    assert table.lookup(everything["id"]).equals(everything.drop_columns(["id"]))
    assert table.lookup(pa.array([], pa.string())).num_rows == 0


def test_only_the_parts_are_read_in_which_an_id_may_be(tmp_path: Path) -> None:
    table = finish(make(tmp_path, (0, 1, 2, 3)))
    (Path(table.path) / table.files[2].name).write_bytes(b"damaged")
    first = table.files[0].first
    assert table.lookup(pa.array([first])).num_rows == 1
    with pytest.raises(CheckFailed, match=r"part-00002.parquet: changed or lost"):
        table.lookup(pa.array([table.files[2].last]))


@pytest.mark.fault("a kill while scores are written", "same bytes")
def test_the_order_of_chunks_and_a_kill_change_no_byte(tmp_path: Path) -> None:
    whole = finish(make(tmp_path / "whole", (0, 1, 2, 3)))
    killed = make(tmp_path / "killed", (3, 1))
    (Path(killed.folder) / "chunks" / ".2.parquet.0123.tmp").write_bytes(b"torn")
    again = ScoreWriter(str(tmp_path / "killed"), "a", killed.settings, {"device": "cpu"})
    assert again.finished is None and again.chunks() == {"1", "3"}
    with pytest.raises(RunError, match="is not finished"):
        open_scores(again.folder)
    for number in {"0", "1", "2", "3"} - again.chunks():
        again.append(number, chunk(int(number)))
    assert content(finish(again).path) == content(whole.path)
    assert open_scores(again.folder) == again.finished and not again.chunks()
    assert open_scores(whole.path).digest == open_scores(again.folder).digest


def test_the_key_is_that_of_what_determines_the_scores(tmp_path: Path) -> None:
    writer = ScoreWriter(str(tmp_path), "a", {"model": "m", "corpus": "c"}, {"device": "cuda"})
    assert writer.key == make(tmp_path, (), {"corpus": "c", "model": "m"}).key
    assert writer.key != make(tmp_path, (), {"corpus": "c", "model": "n"}).key


def test_ids_that_occur_twice_and_folders_without_a_table_are_refused(tmp_path: Path) -> None:
    writer = make(tmp_path, (0,))
    with pytest.raises(CheckFailed, match="an id occurs twice"):
        writer.finish(pa.concat_tables([chunk(0), chunk(0)]))
    with pytest.raises(RunError, match=r"no table of scores \(has no scores.json\)"):
        open_scores(str(tmp_path))

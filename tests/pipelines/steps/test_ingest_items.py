"""How files become work items: large ones are split, small ones grouped, and no record knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.ray.engine import RayEngine
from pipelines.audit.why import why
from pipelines.errors import InputError, RecordError
from pipelines.formats import read as reading
from pipelines.formats import span
from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.ledger import input_files, storage
from pipelines.ledger.engine import Engine, LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.runs import record
from pipelines.recipe import Recipe
from pipelines.sources import SOURCES, Source
from pipelines.steps import ingest as ingesting
from pipelines.steps.ingest import by_source, ingest


def recipe(*paths: Path, **more: Any) -> Recipe:
    columns = {"instruction": "q", "response": "a"}
    source = {"name": "mine", "path": [str(path) for path in paths], "columns": columns, "condition": "direct", **more}
    return Recipe.model_validate({"name": "test", "sources": [source]})


def lines(path: Path, rows: int, end: str = "\n") -> Path:
    """Rows of which some are broken, on lines of which some are empty."""
    pairs = ((f"{path.stem} question {i}", None if i % 11 == 5 else f"answer {i}") for i in range(rows))
    text = [json.dumps({"q": question, "a": answer}) for question, answer in pairs]
    text[3:4] = ["{broken", "", text[3] + text[3], "[]", "  "]
    path.write_text(end.join(text))
    return path


def rows(manifest: Manifest) -> tuple[list[Any], list[Any]]:
    """The records kept and dropped, in order."""
    kept, dropped = (
        [row for file in files for row in storage.read_parquet(file.path).to_pylist()]
        for files in (manifest.shards, manifest.dropped)
    )
    return kept, dropped


def made(root: Path, asked: Recipe, engine: AbstractContextManager[Engine]) -> Manifest:
    with engine as running:
        return ingest(Run(str(root), running), asked)


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some kilobytes have spans."""
    monkeypatch.setattr(reading, "MIN_SPLIT_BYTES", 0)
    monkeypatch.setattr(span, "SPAN_BYTES", 5_000)


def files_of_each_kind(folder: Path) -> list[Path]:
    table = pa.table({"q": [f"question {i}" for i in range(1_000)], "a": ["x" * (i % 50) for i in range(1_000)]})
    pq.write_table(table, folder / "p.parquet", row_group_size=90)
    with pa.ipc.new_file(folder / "f.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=90)
    texts = [lines(folder / "a.jsonl", 500), lines(folder / "b.jsonl", 500, "\r\n")]
    return [*texts, folder / "p.parquet", folder / "f.arrow"]


def test_spans_change_no_id_order_text_or_reason_for_any_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe(*files_of_each_kind(tmp_path))
    whole = made(tmp_path / "whole", asked, LocalEngine(1))
    assert len(whole.parts) == 4
    monkeypatch.setattr(reading, "MIN_SPLIT_BYTES", 0)
    monkeypatch.setattr(span, "SPAN_BYTES", 5_000)
    engines: dict[str, AbstractContextManager[Any]] = {"1": LocalEngine(1), "3": LocalEngine(3)}
    engines["ray"] = RayEngine(2, str(tmp_path / "ray"))
    split = {name: made(tmp_path / name, asked, engine) for name, engine in engines.items()}
    assert len(split["1"].parts) > 20
    for manifest in split.values():
        assert rows(manifest) == rows(whole)
        assert manifest.reasons == whole.reasons and by_source(manifest) == by_source(whole)
        assert manifest.model_dump_json(exclude={"parts"}) == split["1"].model_dump_json(exclude={"parts"})
        assert [file.digest for file in manifest.all_files] == [file.digest for file in split["1"].all_files]


def test_groups_change_no_id_order_text_or_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for number in range(150):
        lines(tmp_path / "data" / f"f{number:03d}.jsonl", 4 + number % 7)
    asked = recipe(tmp_path / "data")
    grouped = made(tmp_path / "grouped", asked, LocalEngine(2))
    assert [part.rows_in is not None for part in grouped.parts] == [True] * 3
    monkeypatch.setattr(ingesting, "GROUP_FILES", 1_000)
    alone = made(tmp_path / "alone", asked, LocalEngine(1))
    assert len(alone.parts) == 150
    assert rows(grouped) == rows(alone) and grouped.reasons == alone.reasons
    assert by_source(grouped) == by_source(alone)


def test_a_group_ends_at_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for number in range(80):
        lines(tmp_path / "data" / f"f{number:03d}.jsonl", 2_000 if number == 40 else 4)
    monkeypatch.setattr(ingesting, "GROUP_BYTES", 50_000)
    manifest = made(tmp_path / "root", recipe(tmp_path / "data"), LocalEngine(1))
    assert [one[:2] for one in manifest.parameters["sources"][0]["reads"]] == [[0, 40], [40, 41], [41, 80]]


def test_a_source_of_few_files_is_read_file_by_file(tmp_path: Path) -> None:
    files = [lines(tmp_path / f"f{number:02d}.jsonl", 4) for number in range(ingesting.GROUP_FILES)]
    manifest = made(tmp_path / "root", recipe(*files), LocalEngine(1))
    assert len(manifest.parts) == len(files) and "reads" not in manifest.parameters["sources"][0]


@pytest.mark.usefixtures("split")
def test_the_first_bad_row_of_a_split_file_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    rows = [{"q": f"question {i}", "a": "x" if i != 700 else None} for i in range(1_000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = recipe(tmp_path / "a.jsonl").model_copy(update={"on_bad_row": "fail"})
    with pytest.raises(RecordError, match="a: row 700: null_response"):
        made(tmp_path / "root", asked, LocalEngine(2))


@pytest.mark.usefixtures("split")
def test_why_names_the_file_of_a_row_that_a_span_or_a_group_has(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(70):
        lines(tmp_path / "data" / f"f{number:02d}.jsonl", 900 if number == 5 else 8)
    asked, root = recipe(tmp_path / "data"), tmp_path / "root"
    with LocalEngine(1) as engine:
        run = Run(str(root), engine)
        products = {"corpus": ingest(run, asked)}
        recorded = record(str(root), asked.name, "", asked.model_dump(mode="json"), products, run.results)
    for id, name in (("mine/f05/800", "f05"), ("mine/f06/7", "f06"), ("mine/f69/0", "f69")):
        origin = why(recorded, id).origin
        path = tmp_path / "data" / f"{name}.jsonl"
        assert (origin.file, origin.digest) == (path.name, input_files.identity(str(path)))


def _loses(path: str) -> Iterator[pa.Table]:
    for table in read(path, text_columns("q", "a")):
        yield raw(table, table["q"], table["a"], "direct").slice(1)


def _doubles(path: str) -> Iterator[pa.Table]:
    for table in read(path, text_columns("q", "a")):
        rows = raw(table, table["q"], table["a"], "direct")
        yield pa.concat_tables([rows.slice(0, 5), rows.slice(4)])


def _loses_the_last(path: str) -> Iterator[pa.Table]:
    for table in read(path, text_columns("q", "a")):
        yield raw(table, table["q"], table["a"], "direct").slice(0, table.num_rows - 1)


def _swaps(path: str) -> Iterator[pa.Table]:
    for table in read(path, text_columns("q", "a")):
        yield raw(table, table["q"], table["a"], "direct").take(pa.array([1, 0, *range(2, table.num_rows)]))


@pytest.mark.fault("an adapter loses, doubles or swaps rows of a Parquet file", "exit with the file, row and adapter")
@pytest.mark.parametrize("reader", [_loses, _doubles, _loses_the_last, _swaps])
def test_an_adapter_that_does_not_return_each_row_once_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any
) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"q": [f"question {i}" for i in range(50)], "a": ["x"] * 50}), path)
    source = Source("odd", "Odd", "", "main", "MIT", ("direct",), read=reader)
    monkeypatch.setitem(SOURCES.own, "odd", source)
    asked = Recipe.model_validate({"name": "test", "sources": [{"name": "s", "adapter": "odd", "path": str(path)}]})
    with pytest.raises(InputError, match=r"p\.parquet: the adapter 'odd' lost or doubled rows"):
        made(tmp_path / "root", asked, LocalEngine(1))

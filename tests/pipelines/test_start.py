"""What a survey of the user's files says, also of odd files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError, WinnowError
from pipelines.recipe import load
from pipelines.start import recipe_text, survey
from pipelines.steps.source_files import check_inputs

PAIRS = "question,answer\nWhat is a river?,Water that flows.\n"

ODD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.csv", b"", "is empty"),
    "header only": ("a.csv", b"question,answer\n", "has no rows"),
    "empty JSON": ("a.json", b"[]", "columns: none"),
    "text": ("a.txt", b"Once upon a time there was a river.\n\nIt was long.\n", "plain text"),
    "JSON lines called txt": ("a.txt", b'{"question": "a b", "answer": "c"}\n', "rename it to a.jsonl"),
    "a table called txt": ("a.txt", PAIRS.encode(), "rename it to a.csv"),
    "Parquet called csv": ("a.csv", b"PAR1\x15\x04\x15\x00PAR1", "rename it to a.parquet"),
    "a spreadsheet": ("a.xlsx", b"PK\x03\x04\x14\x00", "save the sheet as CSV"),
    "a spreadsheet called csv": ("a.csv", b"PK\x03\x04\x14\x00\x00\x01\x02", "save the sheet as CSV"),
    "a picture": ("a.png", b"\x89PNG\r\n\x1a\n\x00\x00", "not text"),
    "prose alone": ("a.jsonl", b'{"text": "a story of a river"}\n' * 2, "no pairs of instruction and response"),
    "CSV called json": ("a.json", PAIRS.encode(), "a.json"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_named_with_its_mend(name: str, tmp_path: Path) -> None:
    file, data, message = ODD[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(WinnowError) as error:
        survey([str(tmp_path / file)])
    assert file in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_files_of_spreadsheets_are_read_in_their_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("question;answer\nWie groß ist er?;Sehr groß.\n", encoding=encoding)
    (source,) = survey([str(tmp_path / "a.csv")]).sources
    assert source.records[0].response == "Sehr groß."


def test_a_folder_is_one_source_and_what_holds_no_pairs_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    for number in range(3):
        (folder / f"train-{number:05}.csv").write_text(PAIRS, encoding="utf-8")
    (source,) = survey([str(folder)]).sources
    assert (source.name, source.files, source.path) == ("train", 3, (str(folder),))
    (folder / "notes.json").write_text('[{"author": "x", "year": 1}]', encoding="utf-8")
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": "a b"}] * 2]}), folder / "chat.parquet")
    found = survey([str(folder)])
    assert [source.files for source in found.sources] == [3] and len(found.skipped) == 2


def test_names_of_sources_are_valid_and_unique_and_any_file_name_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    paths = [tmp_path / "one" / "Fragen & Antworten [1].csv", tmp_path / "two" / "Fragen & Antworten [1].jsonl"]
    paths[0].write_text(PAIRS, encoding="utf-8")
    paths[1].write_text(json.dumps({"prompt": "What is it?", "completion": "A river."}) + "\n", encoding="utf-8")
    found = survey(list(map(str, paths)))
    assert [source.name for source in found.sources] == ["Fragen_Antworten_1", "Fragen_Antworten_1_2"]
    assert "name: Fragen_Antworten_1_2" in recipe_text(found, "winnow init")


def test_a_file_name_that_no_id_can_have_is_refused_before_a_recipe_is_written(tmp_path: Path) -> None:
    (tmp_path / "a\x1bb.csv").write_text(PAIRS, encoding="utf-8")
    with pytest.raises(InputError, match=r"'a\\x1bb'.* a control character .*; rename the file"):
        survey([str(tmp_path / "a\x1bb.csv")])


@pytest.mark.parametrize("name", ["n" * 240, "-n", ".n", "_n."])
def test_a_recipe_for_a_file_of_any_name_can_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.csv").write_text(PAIRS, encoding="utf-8")
    found = survey([str(tmp_path / f"{name}.csv")])
    (tmp_path / "recipe.yaml").write_text(recipe_text(found, f"winnow init a\x1bb\n{name}.csv"), encoding="utf-8")
    recipe = load(str(tmp_path / "recipe.yaml"))
    assert recipe.sources[0].name and check_inputs(recipe)

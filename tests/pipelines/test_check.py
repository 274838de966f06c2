"""What a recipe names is checked before anything is computed, and all that is wrong is told together."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

import pipelines.check
from pipelines.check import RecipeWarning, check, load_checked
from pipelines.errors import InputError, RecipeError, WinnowError
from pipelines.recipe import load

SOURCE = "  - {name: a, path: a.csv, condition: direct, columns: {instruction: q, response: a}}\n"
VALID = f"name: r\nsources:\n{SOURCE}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("q,a\nWhat is it?,A pen.\n", encoding="utf-8")
    (tmp_path / "broken.json").write_text("{}", encoding="utf-8")
    return tmp_path


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(VALID + text, encoding="utf-8")
    return str(path)


SLIPS = [
    ("stages: [{kind: language, languages: [german]}]", "stages.0: languages: 'german'", "write 'de'"),
    ("stages: [{kind: language, languages: [fr-CA]}]", "stages.0: languages: 'fr-CA'", "write 'fr'"),
    ("stages: [{kind: language, languages: []}]", "stages.0: languages", "name at least one"),
    ("stages: [{kind: language, model: none.ftz}]", "stages.0: none.ftz", "leave out `model`"),
    ("contamination: {benchmarks: [{name: humanevl}]}", "unknown benchmark 'humanevl'", "'humaneval'"),
    ("contamination: {benchmarks: [{name: mmlu, path: no.csv}]}", "benchmark 'mmlu': ", "no such file"),
    ("contamination: {benchmarks: [{name: generated}]}", "'generated' is computed", "`rows: 300`"),
    ("contamination: {benchmarks: []}", "contamination.benchmarks", "`contamination: false`"),
    ("contamination: {benchmarks: [{name: generated, rows: 9}], rule: gtp3}", "contamination.rule", "'gpt3'"),
    ("contamination: {benchmarks: [{name: generated, rows: 9}], drop: [test_leaks]}", "drop", "'test_leak'"),
    ("tokenizer: {path: no.json}", "tokenizer.path", "no such tokenizer"),
    ("tokenizer: {path: .}", "tokenizer.path", "name the `tokenizer.json` in it"),
    ("tokenizer: {path: broken.json}", "tokenizer.path", "not a tokenizer.json"),
    ("against: r-00000000", "against: r-00000000", "no such run"),
]


@pytest.mark.parametrize(("text", "key", "mend"), SLIPS)
def test_a_mistake_is_told_with_its_line(folder: Path, text: str, key: str, mend: str) -> None:
    path = write(folder, text + "\n")
    with pytest.raises(WinnowError) as error:
        load_checked(path, root=str(folder / "root"))
    said = str(error.value)
    assert said.startswith(f"{path}:4: ") and key in said and mend in said and "\n" not in said


def test_mistakes_of_the_file_and_of_what_it_names_are_told_together(folder: Path) -> None:
    text = (
        "stages:\n  - {kind: lop}\n  - {kind: language, languages: [english]}\nseed: x\n"
        "tokenizer: {path: no.json}\nsampling: {epochs: 0}\nagainst: [r-1]\n"
    )
    path = write(folder, text)
    with pytest.raises(RecipeError) as error:
        load_checked(path, root=str(folder / "root"))
    places = [line.split(": ")[:2] for line in sorted(str(error.value).splitlines())]
    assert places == [
        [f"{path}:10", "against"],
        [f"{path}:5", "stages.0"],
        [f"{path}:6", "stages.1"],
        [f"{path}:7", "seed"],
        [f"{path}:8", "tokenizer.path"],
        [f"{path}:9", "sampling.epochs"],
    ]


def test_every_source_that_cannot_be_read_is_told(folder: Path) -> None:
    recipe = load(
        write(
            folder,
            SOURCE.replace("name: a", "name: b").replace("a.csv", "no.csv")
            + SOURCE.replace("name: a", "name: c").replace("response: a", "response: x"),
        )
    )
    with pytest.raises(WinnowError) as error:
        check(recipe)
    assert "source 'b'" in str(error.value) and "no column 'x'" in str(error.value)


def test_a_check_without_files_needs_none(folder: Path) -> None:
    recipe = load(write(folder, "contamination: {benchmarks: [{name: mmlu, path: no.csv}]}\n"))
    (folder / "a.csv").unlink()
    check(recipe, files=False)
    with pytest.raises(WinnowError):
        check(recipe)


def test_a_sampling_rule_without_files_is_a_warning(folder: Path) -> None:
    path = write(folder, "sampling: {groups: [{prefix: a}, {prefix: flan/}]}\n")
    with pytest.warns(RecipeWarning, match=r"sampling\.groups\.1: no file's name begins with 'flan/' \(names: a/a\)"):
        load_checked(path)


class Usage(NamedTuple):
    free: int


def test_a_build_for_which_there_is_no_room_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(folder / "root")
    recipe = load(write(folder, ""))
    needed = pipelines.check.disk_needed(recipe, pipelines.check.check_source(recipe.sources[0], {}))
    free = needed
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(free))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(recipe, root)
    free = needed // 2
    with pytest.warns(RecipeWarning, match=r"MB are free, and the build is estimated to write up to .* MB"):
        check(recipe, root)
    free = needed // 8
    with pytest.raises(InputError, match="MB are free"):
        check(recipe, root)


@pytest.mark.parametrize(
    ("section", "content", "words"),
    [
        ("contamination: {benchmarks: [{name: mine, adapter: items, path: b.jsonl}]}", "", "no items in"),
        ("contamination: {benchmarks: [{name: mine, adapter: items, path: b.jsonl}]}", '{"x": 1}', "'question'"),
        ("contamination: {benchmarks: [{name: gsm8k, path: b.jsonl}]}", '{"question": "a", "answer": "b"}', "####"),
    ],
)
def test_files_that_an_adapter_cannot_read_are_told(tmp_path: Path, section: str, content: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "a", "a": "b"}\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(f"{content}\n" if content else "", encoding="utf-8")
    source = "{name: a, path: a.jsonl, columns: {instruction: q, response: a}, condition: direct}"
    (tmp_path / "r.yaml").write_text(f"name: r\nsources: [{source}]\n{section}\n", encoding="utf-8")
    with pytest.raises(InputError, match=words) as error:
        load_checked(str(tmp_path / "r.yaml"))
    assert "r.yaml:3: " in str(error.value)
    (tmp_path / "s.yaml").write_text("name: s\nsources: [{name: a, adapter: gsm8k, path: a.jsonl}]\n", encoding="utf-8")
    with pytest.raises(InputError, match="'question'"):
        load_checked(str(tmp_path / "s.yaml"))

"""Mistakes in a recipe are told in its own words: the file and line, the key, and what to write instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.errors import RecipeError, WinnowError
from pipelines.formats.roles import parse_columns, role_meant
from pipelines.recipe import load
from pipelines.scan import scan_recipe
from pipelines.settings import override

VALID = "name: r\nsources:\n  - {name: a, path: a.jsonl, columns: {instruction: q, response: a}}\n"
FOREIGN = re.compile(r"[Ii]nput should be|Value error|validation error|Extra inputs|[Ff]ield required|pydantic|type=")
"""How pydantic speaks."""

SLIPS = [
    # Stages
    ("stages: length", 4, "stages", "write [length]"),
    ("stages: [strip_thinknig]", 4, "stages.0", "did you mean 'strip_thinking'?"),
    ("stages:\n  - urls: {max_ratio: 0.5}", 5, "stages.0", "write `- {kind: urls, max_ratio: 0.5}`"),
    ("stages: {length: {}}", 4, "stages", "begin each item of a list with `- `"),
    ("stages: [7]", 4, "stages.0", "expected a mapping, got 7"),
    ("stages: [~]", 4, "stages.0", "leave it out"),
    ("stages: [{kind: [loop]}]", 4, "stages.0", "known: "),
    ("stages: [{kind: length, min_chars: 9, max_chars: 3}]", 4, "stages.0", "`min_chars` (9) is above `max_chars` (3)"),
    ("stages: [{kind: length, min_chars: -4}]", 4, "stages.0.min_chars", "at least 0"),
    ("stages: [{kind: length, max_chars: 20k}]", 4, "stages.0.max_chars", "write 20000"),
    ("stages: [{kind: length, max_chars: '8,192'}]", 4, "stages.0.max_chars", "write 8192"),
    ("stages: [{kind: length, maxchars: 5}]", 4, "stages.0.maxchars", "did you mean 'max_chars'?"),
    ("stages: [{kind: language, languages: de}]", 4, "stages.0.languages", "write [de]"),
    ("stages: [{kind: language, min_confidence: 70}]", 4, "stages.0.min_confidence", "write 0.7"),
    ("stages: [{kind: language, min_confidence: 70%}]", 4, "stages.0.min_confidence", "write 0.7"),
    # Duplicates
    ("near_duplicates: true", 4, "near_duplicates", "write {} for the defaults"),
    ("near_duplicates: off", 4, "near_duplicates", "write false"),
    ("near_duplicates: 0.7", 4, "near_duplicates", "its keys: instruction, response"),
    ("near_duplicates: {response: 85}", 4, "near_duplicates.response", "write 0.85"),
    ("near_duplicates: {preset: dolma}", 4, "near_duplicates.preset", "did you mean 'dolma3'?"),
    ("near_duplicates: {keep: length}", 4, "near_duplicates.keep", "write [length]"),
    ("near_duplicates: {jaccard: 0.7}", 4, "near_duplicates.jaccard", "known: "),
    ("exact_duplicates: {fields: [respnse]}", 4, "exact_duplicates.fields.0", "did you mean 'response'?"),
    ("exact_duplicates: {fields: []}", 4, "exact_duplicates.fields", "at least 1 item"),
    # Contamination, tokenizer, sampling
    ("contamination: mmlu", 4, "contamination", "its keys: benchmarks"),
    ("contamination: true", 4, "contamination", "write {benchmarks: ...}"),
    ("contamination: {benchmarks: mmlu}", 4, "contamination.benchmarks", "write [{name: mmlu}]"),
    ("contamination:\n  benchmarks:\n    - drop", 6, "contamination.benchmarks.0", "write {name: drop}"),
    ("contamination: {rule: gpt3}", 4, "contamination.benchmarks", "add `benchmarks: ...`"),
    ("tokenizer: tokenizer.json", 4, "tokenizer", "write {path: tokenizer.json}"),
    ("tokenizer: {vocab_size: 32k}", 4, "tokenizer.vocab_size", "write 32000"),
    ("sampling: {validation: 2%}", 4, "sampling.validation", "write 0.02"),
    ("sampling:\n  epochs: 0", 5, "sampling.epochs", "at least 1"),
    ("sampling: {groups: flan}", 4, "sampling.groups", "write [{prefix: flan}]"),
    ('mirror: "a\\0b"', 4, "mirror", "has a null character"),
    ('tokenizer: {path: "\\0"}', 4, "tokenizer.path", "has a null character"),
    ('against: [run, "a\\0"]', 4, "against", "has a null character"),
    # Keys
    ("filters: []", 4, "filters", "write `stages`"),
    ("dedup: {}", 4, "dedup", "write `near_duplicates`"),
    ("context: 2049", 4, "context", "is a key of `sampling`"),
    ("stagse: []", 4, "stagse", "did you mean 'stages'?"),
    ("7: x", None, "7", "known: "),
    ("seed: 1\nseed: 2", 5, "seed", "keep one"),
    ("seed: seven", 4, "seed", "expected a whole number"),
    ("on_bad_row: fial", 4, "on_bad_row", "did you mean 'fail'?"),
    ("against: {run: x}", 4, "against", "begin each item of a list with `- `"),
    # YAML
    ("sampling:\n\tepochs: 2", "line 5, column 1", "a tab", "indent with spaces"),
    ("seed: 1\n  epochs: 2", "line 5, column 9", "a second `: `", "begin a new line"),
    ("stages:\n  - loop\n - echo", "line 6, column 2", "not indented", "like the keys of its section"),
    ("stages: [loop, echo", "line 5, column 1", "bracket", "is not closed"),
    ("mirror: 'copies", "line 4, column 9", "quote", "is not closed"),
    ('mirror: "C:\\data"', "line 4, column 13", "double quotes", "use single quotes"),
    ("mirror: *.jsonl", "line 4, column 10", "reference", "put the text in quotes"),
]  # fmt: skip
"""What follows VALID in the recipe; its line, the key, and the mend."""

SOURCE_SLIPS = [
    ("sources: rows.csv", "sources", "write [{name: ..., path: rows.csv}]"),
    ("sources: [rows.csv]", "sources.0", "write {name: ..., path: rows.csv}"),
    ("sources: {name: a}", "sources", "begin each item of a list with `- `"),
    ("sources: []", "sources", "at least 1 item"),
    ("sources:", "sources", "give it a value"),
    ("sources: [{path: x.csv}]", "sources.0.name", "add `name: ...`"),
    ("sources: [{name: my rows, path: x.csv}]", "sources.0.name", "letters, digits"),
    ("sources: [{name: -rf, path: x.csv}]", "sources.0.name", "letters, digits"),
    ("sources: [{name: ., path: x.csv}]", "sources.0.name", "letters, digits"),
    ('sources: [{name: a, path: [x.csv, "a\\0b"]}]', "sources.0.path", "has a null character"),
    ("sources: [{name: 2024, path: x.csv}]", "sources.0.name", 'write "2024"'),
    ("sources: [{name: a, url: x.csv}]", "sources.0.url", "write `path`"),
    ("sources: [{name: a, path: x.csv, rows: 5k}]", "sources.0.rows", "write 5000"),
    ("sources: [{name: a, path: x.csv, columns: [q, a]}]", "sources.0.columns", "write `key: value`"),
    ("sources: [{name: a, path: x.csv, condition: [synth, cot]}]", "sources.0.condition", "write synth,cot"),
    ("sources: [{name: a, path: x.csv}, {name: a, path: y.csv}]", "sources", "two sources are called 'a'"),
]


def message(folder: Path, text: str) -> tuple[str, str]:
    """The path of a recipe, and the message about it."""
    path = folder / "recipe.yaml"
    path.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load(str(path))
    return str(path), str(error.value)


@pytest.mark.parametrize(("text", "line", "key", "mend"), SLIPS)
def test_a_message_has_the_line_the_key_and_the_mend(
    tmp_path: Path, text: str, line: int | str | None, key: str, mend: str
) -> None:
    path, said = message(tmp_path, VALID + text)
    place = f"{path}:{line}: " if isinstance(line, int) else f"{path}: {line or ''}"
    assert said.startswith(place) and key in said and mend in said and not FOREIGN.search(said)
    assert "\n" not in said


@pytest.mark.parametrize(("text", "key", "mend"), SOURCE_SLIPS)
def test_a_message_about_sources_has_the_line_the_key_and_the_mend(
    tmp_path: Path, text: str, key: str, mend: str
) -> None:
    path, said = message(tmp_path, f"name: r\n{text}")
    assert said.startswith(f"{path}:2: ") and key in said and mend in said and not FOREIGN.search(said)


def test_all_mistakes_are_told_together_one_on_a_line(tmp_path: Path) -> None:
    text = VALID + "seed: x\nstages: [{kind: lop}, {kind: length, min_chars: -1}]\nsampling: {epochs: 0}\n"
    path, said = message(tmp_path, text)
    assert [line.split(": ")[:2] for line in sorted(said.splitlines())] == [
        [f"{path}:4", "seed"],
        [f"{path}:5", "stages.0"],
        [f"{path}:5", "stages.1.min_chars"],
        [f"{path}:6", "sampling.epochs"],
    ]


def test_the_name_of_a_stage_is_the_stage_with_its_defaults(tmp_path: Path) -> None:
    recipes = []
    for text in ("[loop, {kind: echo}]", "[{kind: loop}, echo]"):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"{VALID}stages: {text}\n", encoding="utf-8")
        recipes.append(load(str(path)))
    assert recipes[0] == recipes[1]
    assert (
        load(str(path), ["stages.echo.min_instruction_bytes=50"]).stages[1].model_dump()["min_instruction_bytes"] == 50
    )


@pytest.mark.parametrize("setting", ["sampling.epochs=0", "seed=x", "stages=[lop]", "near_duplicates=maybe"])
def test_a_message_about_a_setting_names_it(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(VALID, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load(str(path), [setting])
    assert f"--set {setting}: " in str(error.value) and not FOREIGN.search(str(error.value))


def test_a_setting_that_is_not_yaml_is_named() -> None:
    with pytest.raises(WinnowError, match=r"^--set a=\[1: the value is not YAML: a bracket"):
        override({"a": 1}, ["a=[1"])


@pytest.mark.parametrize(
    ("word", "role"),
    [
        *[(word, "messages") for word in ("conversations", "dialogue", "chat")],
        *[(word, "instruction") for word in ("prompt", "question", "user_prompt", "input")],
        *[(word, "response") for word in ("output", "answer", "completion", "model_answer")],
        ("reasoning", "thinking"),
        ("category", "condition"),
        ("id", None),
    ],
)
def test_words_of_other_tools_stand_for_roles(word: str, role: str | None) -> None:
    assert role_meant(word) == role


def test_a_wrong_role_is_answered_with_the_meant_one(tmp_path: Path) -> None:
    from pipelines.recipe import Contamination
    from pipelines.steps.source_files import plan_inputs

    (tmp_path / "a.jsonl").write_text('{"chat": []}\n', encoding="utf-8")
    recipe = scan_recipe([str(tmp_path / "a.jsonl")], parse_columns("conversations=chat"), Contamination(benchmarks=()))
    with pytest.raises(RecipeError, match=r"unknown key 'conversations'; write \{messages: chat\}"):
        plan_inputs(recipe)

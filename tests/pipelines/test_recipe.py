"""A recipe is read as written, and a mistake in it is an error that names the file, the key and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import RecipeError
from pipelines.recipe import Recipe, load

MINIMAL = "name: r\nsources:\n  - {name: a, path: a.jsonl, columns: {instruction: q, response: a}}\n"


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_only_name_and_sources_are_needed(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL))
    assert recipe.name == "r" and recipe.on_bad_row == "drop" and recipe.tokenizer.vocab_size == 65536
    assert recipe.near_duplicates and recipe.contamination is False
    assert recipe.near_duplicates.thresholds == {"instruction": 0.8, "response": 0.8}


def test_relative_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load(
        write(
            tmp_path,
            MINIMAL + "contamination: {benchmarks: [{name: gsm8k, path: ../b.jsonl}]}\ntokenizer: {path: t.json}\n",
        )
    )
    assert recipe.sources[0].path == str(tmp_path / "a.jsonl")
    assert recipe.tokenizer.path == str(tmp_path / "t.json")
    assert recipe.contamination and recipe.contamination.benchmarks[0].path == str(tmp_path.parent / "b.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL + "stagess: []\n", "unknown key 'stagess'; did you mean 'stages'?"),
        (MINIMAL + "stages: [{kind: lenght}]\n", "unknown stage 'lenght'; did you mean 'length'?"),
        (
            MINIMAL + "stages: [{kind: length, max_char: 5}]\n",
            "unknown key 'stages.0.max_char'; did you mean 'max_chars'?",
        ),
        (
            MINIMAL + "near_duplicates: {treshold: 0.8}\n",
            "unknown key 'near_duplicates.treshold'; did you mean 'threshold'?",
        ),
        (MINIMAL + "near_duplicates: {instruction: 1.5}\n", "near_duplicates"),
        (
            MINIMAL + "sampling: {groups: [{prefix: a, repeats: 2}]}\n",
            "unknown key 'sampling.groups.0.repeats'; did you mean 'repeat'?",
        ),
        ("name: r\n", "sources: missing; add `sources: ...`"),
        ("name: r\nsources: [{name: a}, {name: a}]\n", "two sources are called 'a'"),
        ("- 1\n", "a recipe is a mapping"),
        ("a: [\n", "not YAML"),
    ],
)
def test_the_error_for_a_mistake_names_the_file_the_key_and_the_nearest_key(
    tmp_path: Path, text: str, words: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as error:
        load(path)
    assert words in str(error.value) and path in str(error.value)


def test_the_error_for_a_missing_recipe_names_it() -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such recipe"):
        load("nowhere.yaml")


def test_overrides_reach_nested_keys_lists_and_switched_off_sections(tmp_path: Path) -> None:
    text = MINIMAL + "near_duplicates: false\nstages: [{kind: length, max_chars: 10}]\n"
    recipe = load(
        write(tmp_path, text),
        ["near_duplicates.instruction=0.7", "stages.length.max_chars=20", "sources.a.rows=5", "seed=3"],
    )
    assert recipe.near_duplicates and recipe.near_duplicates.thresholds == {"instruction": 0.7}
    assert recipe.stages[0].model_dump()["max_chars"] == 20
    assert recipe.sources[0].rows == 5 and recipe.seed == 3


@pytest.mark.parametrize("override", ["seed", "=3", "sources.b.rows=1", "sead=3"])
def test_an_override_that_cannot_be_applied_is_an_error(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        load(write(tmp_path, MINIMAL), [override])


def test_a_recipe_is_frozen(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError):
        recipe.seed = 1  # type: ignore[misc]
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_on_and_no_are_strings(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL + "stages: [{kind: language, languages: [en, no]}]\n"))
    assert list(recipe.stages[0].model_dump()["languages"]) == ["en", "no"]

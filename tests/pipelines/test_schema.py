"""The published schema of recipes is current, describes every key, and agrees with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from filters.catalogue import STAGES
from pipelines.errors import RecipeError
from pipelines.recipe import load
from pipelines.schema import recipe_schema, schema_text
from pipelines.settings import parse_yaml

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"
SCHEMA = recipe_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SMALL = "name: a\nsources: [{name: b, path: b.jsonl, condition: direct}]\n"


def test_the_published_schema_is_current() -> None:
    published = (RECIPES / "recipe.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "winnow schema > pipelines/recipes/recipe.schema.json"


def test_it_is_a_schema_and_describes_every_key_of_every_section_and_stage() -> None:
    VALIDATOR.check_schema(SCHEMA)
    sections = {"recipe": SCHEMA, **SCHEMA["$defs"]}
    assert {stage.__name__ for stage in STAGES.values()} <= set(sections)
    for name, section in sections.items():
        assert section["additionalProperties"] is False, name
        for key, value in section["properties"].items():
            assert value.get("description", "").endswith((".", ")")), f"{name}.{key}: {value}"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_recipe_matches_and_names_the_schema_beside_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert not list(VALIDATOR.iter_errors(parse_yaml(text)))


def test_the_line_for_editors_changes_nothing(tmp_path: Path) -> None:
    text = (RECIPES / "demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(text.partition("\n")[2], encoding="utf-8")
    assert load(str(tmp_path / "a.yaml")) == load(str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(
    "more",
    [
        "stagess: []",
        "sampling: {epoch: 2}",
        "stages: [{kind: length, max_char: 5}]",
        "stages: [{kind: lenght}]",
        "stages: [{max_chars: 5}]",
        "near_duplicates: {instruction: 1.5}",
        "contamination: {benchmarks: [{name: a, file: b}]}",
        "tokenizer: {vocab_size: 3}",
        "on_bad_row: ignore",
    ],
)
def test_what_the_loader_refuses_does_not_match(more: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALL + more, encoding="utf-8")
    with pytest.raises(RecipeError):
        load(str(path))
    assert list(VALIDATOR.iter_errors(parse_yaml(SMALL + more)))


@pytest.mark.filterwarnings("ignore::filters.stage.RenamedKeyWarning")
@pytest.mark.parametrize(
    "more",
    [
        "against: demo-1a2b3c4d",
        "against: [demo-1a2b3c4d]",
        "exact_duplicates: false",
        "near_duplicates: {threshold: 0.7, fields: [response]}",
        "stages: [{kind: urls, max_share: 0.5}, {kind: thinking, families: [{name: n, opens: [a], closes: [b]}]}]",
    ],
)
def test_what_the_loader_accepts_matches(more: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALL + more, encoding="utf-8")
    load(str(path))
    problems: list[Any] = [error.message for error in VALIDATOR.iter_errors(parse_yaml(SMALL + more))]
    assert not problems


def test_former_names_are_marked_as_deprecated() -> None:
    assert json.loads(schema_text())["$defs"]["Urls"]["properties"]["max_share"]["deprecated"] is True

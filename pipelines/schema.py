"""The JSON Schema of recipes, for editors: every key with its type, default and description.

It is made from the models. The descriptions are those of their docstrings, where `name, name: text.` describes keys.
`pipelines/recipes/recipe.schema.json` holds it; a recipe names it in a line `# yaml-language-server: $schema=...`.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from filters.catalogue import CORPUS_STAGES, STAGES
from filters.scores.catalogue import SCORES
from filters.scores.score import Score
from pipelines.recipe import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


_KINDS: tuple[type[BaseModel], ...] = (*STAGES.own.values(), *CORPUS_STAGES.values(), *SCORES.own.values())
"""What recipes name by `kind`."""


def recipe_schema() -> dict[str, Any]:
    """The schema. An unknown key does not match it; a former name of a key does, and is marked as deprecated."""
    schema = Recipe.model_json_schema()
    models = {model.__name__: model for model in (*_models(Recipe), *_KINDS)}
    for name, section in [(Recipe.__name__, schema), *schema["$defs"].items()]:
        if name in models:
            _describe(section, models[name])
    runs = schema["properties"]["against"]
    schema["properties"]["against"] = {
        "anyOf": [{"type": "string"}, {key: runs.pop(key) for key in ("type", "items")}],
        **runs,
    }
    return {"$schema": DIALECT, "title": "A recipe of Winnow", **{k: v for k, v in schema.items() if k != "title"}}


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Key -> description, from the docstrings of a model and of the classes it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _keys(inspect.getdoc(base) or "", tuple(model.model_fields))
    return found


_KEYS = r"(?:^|(?<=[.\n)] ))((?:%s)(?:, (?:%s))*): "


def _keys(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """The descriptions of keys in a docstring: `name, name: text`, up to the next of them or an empty line."""
    either = "|".join(map(re.escape, names))
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        marks = list(re.finditer(_KEYS % (either, either), line))
        for mark, following in itertools.zip_longest(marks, marks[1:]):
            said = line[mark.end() : following.start() if following else None].strip()
            found |= dict.fromkeys(mark[1].split(", "), said[:1].upper() + said[1:])
    return found


def _describe(section: dict[str, Any], model: type[BaseModel]) -> None:
    said = descriptions(model)
    summary = (inspect.getdoc(model) or "").split("\n\n")[0]
    section["description"] = " ".join(summary.split()).replace("\n", " ")
    for name, key in section["properties"].items():
        key.pop("title", None)
        if name in said:
            key["description"] = said[name]
    section.pop("title", None)
    if model in _KINDS:
        given_by_kind = {"name"} if issubclass(model, Score) else set()
        needed = {name for name, field in model.model_fields.items() if field.is_required()} - given_by_kind
        section["required"] = ["kind", *sorted(needed)]
    for former, name in getattr(model, "RENAMED_KEYS", {}).items():
        section["properties"][former] = {"deprecated": True, "description": f"Former name: use {name}."}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type annotation, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    else:
        for argument in typing.get_args(annotation):
            yield from _models(argument)

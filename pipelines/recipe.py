"""The recipe: one YAML file that says everything a corpus depends on.

Unknown keys are errors that name the nearest known one; relative paths are relative to the recipe's file.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from filters import STAGES, AnyStage
from pipelines.errors import RecipeError, nearest
from pipelines.ledger import storage
from pipelines.sources import SOURCES

TextField = Literal["instruction", "response"]
TEXT_FIELDS: tuple[TextField, ...] = ("instruction", "response")


class Section(BaseModel):
    """A section of a recipe: a frozen value that knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(Section):
    """Where rows come from, and how they are read.

    adapter: a name in `pipelines/sources`, which knows the data set's address where `path` is left out; without one the
    files' own columns are used, as `columns` maps them (`{instruction: question, response: answer}` or
    `{messages: messages}`, and `thinking: reasoning_content` where reasoning stands apart from the answer). condition:
    the tags of every row, where the adapter does not say. priority: who survives among duplicates, higher first. rows:
    at most so many (a generated source: just so many).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.\-]+$")
    adapter: str | None = None
    path: str | tuple[str, ...] | None = None
    columns: dict[str, str] | None = None
    condition: str | None = None
    priority: int = 0
    rows: int | None = Field(default=None, ge=1)

    @property
    def paths(self) -> tuple[str, ...]:
        """The patterns given, as a tuple."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else self.path


class ExactDuplicates(Section):
    """Which texts two records must share to be exact duplicates, and whether across sources or within one only."""

    fields: tuple[TextField, ...] = TEXT_FIELDS
    scope: Literal["across", "within"] = "across"


class NearDuplicates(Section):
    """MinHash: a preset by its published name, or a Jaccard threshold from which bands and rows per band follow."""

    preset: Literal["fineweb", "dolma3", "curator"] | None = None
    threshold: float = Field(default=0.8, gt=0, lt=1)
    fields: tuple[TextField, ...] = TEXT_FIELDS
    scope: Literal["across", "within"] = "across"
    keep: tuple[Literal["priority", "score", "length", "id"], ...] = ("priority", "score", "length", "id")
    seed: int = 1


class BenchmarkSpec(Section):
    """An evaluation set: `name` is a name in `pipelines/benchmarks` unless `adapter` says another."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.\-]+$")
    adapter: str | None = None
    path: str | tuple[str, ...] | None = None
    rows: int | None = Field(default=None, ge=1)

    @property
    def paths(self) -> tuple[str, ...]:
        """The patterns given, as a tuple."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else self.path


class Contamination(Section):
    """What the corpus is checked against. rule: a published rule by name; drop: the classes of hits that drop a row.

    semantic: look for items in other words too, by sentence vectors; similarity: the cosine from which a row is near.
    """

    benchmarks: tuple[BenchmarkSpec, ...]
    rule: str = "ngram13"
    drop: tuple[str, ...] = ("test_leak",)
    semantic: bool = False
    similarity: float = Field(default=0.75, gt=0, le=1)


class TokenizerSpec(Section):
    """A `tokenizer.json` that exists, or the size of one to train on the corpus."""

    path: str | None = None
    vocab_size: int = Field(default=65536, ge=512, le=1 << 20)


class Group(Section):
    """A sampling rule for the sources whose name starts with `prefix`; the first that matches wins."""

    prefix: str
    max_per_file: int | None = Field(default=None, ge=1)
    repeat: int = Field(default=1, ge=1)
    long_context: Literal["truncate", "drop"] = "truncate"


class Sampling(Section):
    """Epochs are draws, not passes (HRM-Text: 4 epochs of 15 B tokens from 40 B). context: tokens of a pack,
    plus one. validation: share of the instructions that no epoch trains on, to measure the loss on."""

    epochs: int = Field(default=4, ge=1)
    context: int = Field(default=4097, ge=16)
    validation: float = Field(default=0.01, ge=0, le=0.5)
    groups: tuple[Group, ...] = ()


class Recipe(Section):
    """Everything a corpus depends on.

    mirror: a folder with copies of what has an address: what a source reads from `hf://datasets/openai/gsm8k/...` is
    then read from `<mirror>/datasets/openai/gsm8k/...`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.\-]+$")
    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    mirror: str | None = None
    seed: int = 0
    on_bad_row: Literal["drop", "fail"] = "drop"
    stages: tuple[AnyStage, ...] = ()
    against: tuple[str, ...] = ()
    exact_duplicates: ExactDuplicates | Literal[False] = ExactDuplicates()
    near_duplicates: NearDuplicates | Literal[False] = NearDuplicates()
    contamination: Contamination | Literal[False] = False
    tokenizer: TokenizerSpec = TokenizerSpec()
    sampling: Sampling = Sampling()

    @field_validator("against", mode="before")
    @classmethod
    def _one_is_a_list(cls, runs: object) -> object:
        return (runs,) if isinstance(runs, str) else runs

    @field_validator("sources")
    @classmethod
    def _names_are_unique(cls, sources: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two sources are called {twice[0]!r}; a name is part of every row's id, so give each its own"
            )
        return sources


class Loader(yaml.SafeLoader):
    """YAML with the booleans of version 1.2 only: `on` is a key of ours, and `no` is Norwegian."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; `overrides` are `path.to.key=value` with YAML values (lists by index: `sources.0.rows=10`).

    Errors: RecipeError naming the file, the key and the mend.
    """
    if not storage.exists(path):
        raise RecipeError(f"{path}: no such recipe")
    try:
        data = yaml.load(storage.read_bytes(path), Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with at least `name` and `sources`")
    for override in overrides:
        _override(data, override)
    _check_keys(Recipe, data, path, "")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(
            "\n".join(
                f"{path}: {_where(problem)}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors()
            )
        ) from error
    return _anchor(recipe, path)


def _where(problem: Any) -> str:
    # pydantic puts the union's tag into the path; the user never wrote it.
    return (
        ".".join(
            str(part) for part in problem["loc"] if not (isinstance(part, str) and (part in STAGES or "[" in part))
        )
        or "recipe"
    )


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: write path.to.key=value")
    place: Any = data
    *parents, last = key.split(".")
    for name in parents:
        if isinstance(place, list):
            place = place[_index(place, name, override)]
        else:
            child = place.setdefault(name, {})
            if not isinstance(child, dict | list):  # `near_duplicates: false` turned into settings
                child = place[name] = {}
            place = child
    value = yaml.load(text, Loader)
    if isinstance(place, list):
        place[_index(place, last, override)] = value
    else:
        place[last] = value


def _index(place: list[Any], name: str, override: str) -> int:
    names = [item.get("kind", item.get("name")) if isinstance(item, dict) else None for item in place]
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(place):
        return int(name)
    raise RecipeError(f"--set {override}: {name!r} is no entry of that list ({nearest(name, [n for n in names if n])})")


def _check_keys(model: type[BaseModel], data: Any, path: str, where: str) -> None:
    """Unknown keys, before pydantic: its message cannot offer the nearest known one."""
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        if key in getattr(model, "RENAMED_KEYS", {}):  # a stage's former name, which the stage itself replaces
            continue
        if key not in model.model_fields:
            raise RecipeError(f"{path}: unknown key {where + str(key)!r}; {nearest(str(key), model.model_fields)}")
        here = f"{where}{key}"
        if model is Recipe and key == "stages":
            for index, stage in enumerate(value if isinstance(value, list) else []):
                kind = stage.get("kind") if isinstance(stage, dict) else None
                if not isinstance(kind, str):
                    raise RecipeError(
                        f"{path}: {here}.{index}: a stage is a mapping with a `kind`; {nearest(str(stage), STAGES)}"
                    )
                if kind not in STAGES:
                    raise RecipeError(f"{path}: {here}.{index}: unknown stage {kind!r}; {nearest(kind, STAGES)}")
                _check_keys(STAGES[kind], stage, path, f"{here}.{index}.")
            continue
        for part in _sections(model.model_fields[key].annotation):
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                _check_keys(part, item, path, f"{here}.{index}." if isinstance(value, list) else f"{here}.")


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections of a recipe that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for argument in typing.get_args(annotation) for part in _sections(argument)]


def _anchor(recipe: Recipe, path: str) -> Recipe:
    """Say where everything lies: a source without a path at its own address, relative paths in the recipe's folder,
    addresses in the mirror where there is one."""
    base = path.rsplit("/", 1)[0] if not storage.is_local(path) else str(Path(path).resolve().parent)

    def anchored(one: str) -> str:
        if not storage.is_local(one) or Path(one).is_absolute():
            return one
        return str(Path(base, one).resolve()) if storage.is_local(base) else storage.join(base, one)

    mirror = None if recipe.mirror is None else anchored(recipe.mirror)

    def located(one: str) -> str:
        return anchored(one) if mirror is None else storage.mirrored(anchored(one), mirror)

    def moved(part: Any) -> Any:
        if part.path is None:
            return part
        new = located(part.path) if isinstance(part.path, str) else tuple(located(one) for one in part.path)
        return part.model_copy(update={"path": new})

    changes: dict[str, Any] = {
        "mirror": mirror,
        "sources": tuple(moved(_at_home(source)) for source in recipe.sources),
        "tokenizer": moved(recipe.tokenizer),
    }
    if recipe.contamination:
        benchmarks = tuple(moved(benchmark) for benchmark in recipe.contamination.benchmarks)
        changes["contamination"] = recipe.contamination.model_copy(update={"benchmarks": benchmarks})
    return recipe.model_copy(update=changes)


def _at_home(spec: SourceSpec) -> SourceSpec:
    """The source with its own address as path, where the recipe gives none."""
    known = SOURCES.get(spec.adapter or "")
    return spec.model_copy(update={"path": known.path}) if spec.path is None and known and known.path else spec

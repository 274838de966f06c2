"""The recipe: one YAML file with everything that a corpus depends on.

An unknown key is an error that names the nearest known one. Relative paths are relative to the recipe's file.
"""

from __future__ import annotations

import typing
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from filters.catalogue import STAGES, AnyStage
from filters.stage import RenamedKeyWarning
from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import RecipeError, WinnowError, nearest
from pipelines.ledger import input_files, storage
from pipelines.settings import override, parse_yaml
from pipelines.sources import SOURCES

TextField = Literal["instruction", "response"]
TEXT_FIELDS: tuple[TextField, ...] = ("instruction", "response")


class Section(BaseModel):
    """A section of a recipe: a frozen value. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(Section):
    """Files of rows, and how they are read.

    name: the first part of every row's id. path: a file, folder or glob, or a list of them; also `hf://`, `https://`
    and `s3://`. adapter: a name in `pipelines/sources`, which has the address of the data set if `path` is not given.
    columns: part of a record -> column of the files, if there is no adapter: `{instruction: question, response:
    answer}` or `{messages: messages}`, with `thinking: reasoning_content` if reasoning is in a column of its own.
    Several columns are joined by empty lines: `{instruction: [instruction, input], response: output}`. `qa.q` is the
    field `q` of the column `qa`. condition: the tags of every row, unless the adapter or a column has them. priority:
    among duplicates, a row of the source with the highest survives. rows: at most this many rows are read; a generated
    source has exactly this many. encoding: of text files, if it is not UTF-8 and no byte order mark shows it. quoted:
    whether double quotes enclose fields of CSV and TSV files, or are text; by default they enclose in CSV, and the file
    decides in TSV.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.\-]+$")
    adapter: str | None = None
    path: str | tuple[str, ...] | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    condition: str | None = None
    priority: int = 0
    rows: int | None = Field(default=None, ge=1)
    encoding: str | None = None
    quoted: bool | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a tuple of patterns."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else self.path


class ExactDuplicates(Section):
    """Records that are equal in all of `fields` are duplicates.

    fields: the fields that must be equal. scope: `within` compares only records of one source.
    """

    fields: tuple[TextField, ...] = TEXT_FIELDS
    scope: Literal["across", "within"] = "across"


DEFAULT_JACCARD = 0.8
"""Of each field, if a recipe names none."""


class NearDuplicates(Section):
    """Two records are near-duplicates if the Jaccard of each compared field is at or above its threshold.

    instruction, response: the threshold of each field; null does not compare it. If neither is given, both are
    DEFAULT_JACCARD. preset: a published banding of MinHash; without one, bands and rows per band are computed from the
    lower threshold. scope: `within` compares only records of one source. keep: what decides which row of a cluster
    survives, in order of weight. seed: of the hash functions.
    """

    instruction: float | None = Field(default=None, gt=0, lt=1)
    response: float | None = Field(default=None, gt=0, lt=1)
    preset: Literal["fineweb", "dolma3", "curator"] | None = None
    scope: Literal["across", "within"] = "across"
    keep: tuple[Literal["priority", "score", "length", "id"], ...] = ("priority", "score", "length", "id")
    seed: int = 1

    RENAMED_KEYS: ClassVar[Mapping[str, str]] = {
        "threshold": "instruction, response",
        "fields": "instruction, response",
    }
    """Former keys, and the keys that replace them. `threshold: t, fields: [f, ...]` was one threshold over the fields
    together. It is now read as `f: t` for each of these fields."""

    @model_validator(mode="before")
    @classmethod
    def _accept_former_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        former = [key for key in cls.RENAMED_KEYS if key in values]
        own = [name for name in TEXT_FIELDS if values.get(name) is not None]
        if former and own:
            raise ValueError(f"`{former[0]}` is a former key, replaced by `{own[0]}`; keep `{own[0]}` only")
        if former:
            threshold, fields = values.pop("threshold", DEFAULT_JACCARD), values.pop("fields", TEXT_FIELDS)
            if not isinstance(fields, list | tuple) or not fields or set(fields) - set(TEXT_FIELDS):
                raise ValueError(f"fields: a list of {' and '.join(TEXT_FIELDS)}, not {fields!r}")
            values |= dict.fromkeys(fields, threshold)
            now = ", ".join(f"{name}: {threshold}" for name in TEXT_FIELDS if name in fields)
            names = " and ".join(f"`{key}`" for key in former)
            message = f"near_duplicates: {names} are former keys; read as `near_duplicates: {{{now}}}`"
            warnings.warn(message, RenamedKeyWarning, stacklevel=2)
        elif not own:
            values |= dict.fromkeys(TEXT_FIELDS, DEFAULT_JACCARD)
        return values

    @property
    def thresholds(self) -> dict[TextField, float]:
        """The threshold of each compared field, in the order of TEXT_FIELDS."""
        values = {"instruction": self.instruction, "response": self.response}
        return {name: value for name in TEXT_FIELDS if (value := values[name]) is not None}

    @property
    def lowest_threshold(self) -> float:
        """The lowest of `thresholds`: bands are computed for it."""
        return min(self.thresholds.values())


class BenchmarkSpec(Section):
    """An evaluation set.

    name: of the set, in ids and reports. adapter: a name in `pipelines/benchmarks`, which has the address of the
    published files if `path` is not given; without an adapter, `name` is. path: a file, folder or glob, or a list of
    them. rows: how many items a generated set has.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.\-]+$")
    adapter: str | None = None
    path: str | tuple[str, ...] | None = None
    rows: int | None = Field(default=None, ge=1)

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a tuple of patterns."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else self.path


class Contamination(Section):
    """The evaluation sets that the corpus is checked against.

    benchmarks: the evaluation sets. rule: the name of a rule for what counts as found. drop: the classes of hits for
    which a row is dropped. semantic: also find items in other words, by sentence vectors. similarity: the least cosine
    of such a row. At 0.75 this finds 94 % of MMLU's and 70 % of HumanEval's rephrased items, and 9.7 % of GSM8K's
    training problems wrongly (`filters.contamination.paraphrase.MEASURED`).
    """

    benchmarks: tuple[BenchmarkSpec, ...]
    rule: str = "ngram13"
    drop: tuple[str, ...] = ("test_leak",)
    semantic: bool = False
    similarity: float = Field(default=0.75, gt=0, le=1)


class TokenizerSpec(Section):
    """The tokenizer that the corpus is encoded with.

    path: an existing `tokenizer.json`. Without one, a tokenizer is trained on the corpus. vocab_size: entries of a
    trained tokenizer, special tokens included; fewer if the corpus has too few words.
    """

    path: str | None = None
    vocab_size: int = Field(default=65536, ge=512, le=1 << 20)


class Group(Section):
    """A sampling rule for files and tasks whose name (`<source>/<file or task>`) starts with `prefix`.

    The first rule that matches applies. prefix: how the name starts. max_per_file: at most this many rows of a file or
    task in an epoch. repeat: how often each is drawn in an epoch. long_context: what happens to a row that is longer
    than the context.
    """

    prefix: str
    max_per_file: int | None = Field(default=None, ge=1)
    repeat: int = Field(default=1, ge=1)
    long_context: Literal["truncate", "drop"] = "truncate"


class Sampling(Section):
    """How epochs are drawn. An epoch is a draw, not a pass: HRM-Text draws 4 times 15 B tokens from a corpus of 40 B.

    epochs: how many draws are packed. context: tokens in a pack, plus one. groups: rules by file. validation: share of
    the instructions that are held out of every epoch, for the validation loss.
    """

    epochs: int = Field(default=4, ge=1)
    context: int = Field(default=4097, ge=16)
    validation: float = Field(default=0.01, ge=0, le=0.5)
    groups: tuple[Group, ...] = ()


class Recipe(Section):
    """Everything that a corpus depends on.

    name: the first part of a run's id. sources: where rows come from. seed: of every draw and order. on_bad_row: `drop`
    drops rows that cannot be read with a reason, `fail` stops at the first. stages: filters and transforms, in order.
    exact_duplicates: how equal rows are found; false keeps them. near_duplicates: how nearly equal rows are found;
    false keeps them. contamination: the evaluation sets that the rows are checked against; false checks none.
    tokenizer: which tokenizer encodes the corpus. sampling: what training reads.
    mirror: a folder with copies of remote files. `hf://datasets/openai/gsm8k/...` is then read from
    `<mirror>/datasets/openai/gsm8k/...`. against: earlier runs whose rows count as already present.
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
    def _as_list(cls, runs: object) -> object:
        return (runs,) if isinstance(runs, str) else runs

    @field_validator("sources")
    @classmethod
    def _names_are_unique(cls, sources: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
        names = [source.name for source in sources]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"two sources are called {repeated[0]!r}; a name is part of every row's id, so it must be unique"
            )
        return sources


RECIPES = Path(__file__).parent / "recipes"
"""The recipes that are installed with Winnow."""


def recipe_path(name: str) -> str:
    """The path of a recipe: `name` itself, or for `demo` the recipe of that name that is installed with Winnow.

    Raises: RecipeError: if there is neither a file nor such a recipe.
    """
    installed = RECIPES / f"{name}.yaml"
    if storage.exists(name):
        return name
    if name.isidentifier() and installed.is_file():
        return str(installed)
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    raise RecipeError(f"{name}: no such recipe; give the path of a YAML file, or a name: {', '.join(names)}")


def load(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with assignments `path.to.key=value` applied (see `settings.override`).

    path: of the YAML file, or the name of a recipe that is installed with Winnow.

    Warns: for a key that was renamed; the category is that of the section's own warning.

    Raises: RecipeError: naming the file, the key and what to write instead.
    """
    path = recipe_path(path)
    try:
        values = parse_yaml(storage.read_bytes(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with at least `name` and `sources`")
    try:
        values = override(values, overrides, partial=True)
    except WinnowError as error:
        raise RecipeError(f"{path}: {error}") from error
    _check_keys(Recipe, values, path, "")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            raise RecipeError("\n".join(f"{path}: {_describe(problem)}" for problem in error.errors())) from error
    # Warnings again, now with the name of the file and attributed to the caller.
    for note in notes:
        warnings.warn(f"{path}: {note.message}", note.category, stacklevel=2)
    return _with_locations(recipe, path)


def _describe(problem: Any) -> str:
    """`key: message` of one of pydantic's errors."""
    # The location contains the tags of unions, which are not in the file.
    key = ".".join(
        str(part) for part in problem["loc"] if not (isinstance(part, str) and (part in STAGES or "[" in part))
    )
    return f"{key or 'recipe'}: {problem['msg'].removeprefix('Value error, ')}"


def _check_keys(model: type[BaseModel], values: Any, path: str, prefix: str) -> None:
    """Raises: RecipeError: for an unknown key, with the nearest known one, which pydantic's message does not have."""
    if not isinstance(values, dict):
        return
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name in getattr(model, "RENAMED_KEYS", {}):  # a former name: the section warns
            continue
        if name not in model.model_fields:
            known = [*model.model_fields, *getattr(model, "RENAMED_KEYS", {})]
            raise RecipeError(f"{path}: unknown key {key!r}; {nearest(str(name), known)}")
        if model is Recipe and name == "stages":
            _check_stages(value, path, key)
            continue
        for section in _sections(model.model_fields[name].annotation):
            if isinstance(value, list):
                for index, item in enumerate(value):
                    _check_keys(section, item, path, f"{key}.{index}.")
            else:
                _check_keys(section, value, path, f"{key}.")


def _check_stages(stages: Any, path: str, key: str) -> None:
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        kind = stage.get("kind") if isinstance(stage, dict) else None
        if not isinstance(kind, str):
            raise RecipeError(
                f"{path}: {key}.{index}: a stage is a mapping with a `kind`; {nearest(str(stage), STAGES)}"
            )
        if kind not in STAGES:
            raise RecipeError(f"{path}: {key}.{index}: unknown stage {kind!r}; {nearest(kind, STAGES)}")
        _check_keys(STAGES[kind], stage, path, f"{key}.{index}.")


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in a type annotation, such as `NearDuplicates | Literal[False]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in typing.get_args(annotation) for section in _sections(argument)]


def _with_locations(recipe: Recipe, path: str) -> Recipe:
    """The recipe with the places of all files: the address of a source without a path; relative paths in the recipe's
    folder; remote files in the mirror, if there is one."""
    folder = path.rsplit("/", 1)[0] if not storage.is_local(path) else str(Path(path).resolve().parent)

    def absolute(file: str) -> str:
        if not storage.is_local(file) or Path(file).is_absolute():
            return file
        return str(Path(folder, file).resolve()) if storage.is_local(folder) else storage.join(folder, file)

    mirror = None if recipe.mirror is None else absolute(recipe.mirror)

    def located(file: str) -> str:
        return absolute(file) if mirror is None else input_files.mirrored(absolute(file), mirror)

    def with_location(section: Any) -> Any:
        if section.path is None:
            return section
        place = located(section.path) if isinstance(section.path, str) else tuple(map(located, section.path))
        return section.model_copy(update={"path": place})

    changes: dict[str, Any] = {
        "mirror": mirror,
        "sources": tuple(with_location(_with_address(source)) for source in recipe.sources),
        "tokenizer": with_location(recipe.tokenizer),
    }
    if recipe.contamination:
        benchmarks = tuple(with_location(_with_home(benchmark)) for benchmark in recipe.contamination.benchmarks)
        changes["contamination"] = recipe.contamination.model_copy(update={"benchmarks": benchmarks})
    return recipe.model_copy(update=changes)


def _with_address(spec: SourceSpec) -> SourceSpec:
    """The source with the address of its adapter as path, if the recipe gives none."""
    source = SOURCES.get(spec.adapter or "")
    return spec.model_copy(update={"path": source.path}) if spec.path is None and source and source.path else spec


def _with_home(spec: BenchmarkSpec) -> BenchmarkSpec:
    """The benchmark with the address of its published files as path, if the recipe gives none."""
    benchmark = BENCHMARKS.get(spec.adapter or spec.name)
    has_none = spec.path is None and benchmark is not None and bool(benchmark.path)
    return spec.model_copy(update={"path": benchmark.path}) if benchmark and has_none else spec

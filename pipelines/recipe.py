"""The recipe: one YAML file with everything that a corpus depends on.

An unknown key is an error that names the nearest known one. Relative paths are relative to the recipe's file.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from filters.catalogue import CORPUS_STAGES, STAGES, AnyCorpusStage, AnyStage
from filters.registry import Registry
from filters.scores.catalogue import SCORES, AnyScore
from filters.scores.score import PREFIX, Score
from filters.scores.table import TableScore
from filters.stage import DROP_FIELDS, RenamedKeyWarning, Stage
from pipelines.benchmarks import BENCHMARKS
from pipelines.credentials import hidden
from pipelines.errors import RecipeError, WinnowError, near
from pipelines.formats.read import FORMATS
from pipelines.ledger import corpus_manifest, input_files, storage
from pipelines.ledger.corpus_manifest import CorpusManifest
from pipelines.records import RECORD
from pipelines.settings import Document, assign, parse_document
from pipelines.sources import SOURCES
from pipelines.validation import Key, Problem, dotted, validate

TextField = Literal["instruction", "response"]
TEXT_FIELDS: tuple[TextField, ...] = ("instruction", "response")


MAX_NAME = 200
"""Characters of a name: files are named after it, with a key, of which file systems allow 255 bytes."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$", max_length=MAX_NAME)]
"""Of a recipe, a source, a benchmark. With a dot in front it would be a hidden folder, with a hyphen an option."""


class Section(BaseModel):
    """A section of a recipe: a frozen value. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_null_characters(cls, value: Any) -> Any:
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and "\0" in text:
                raise ValueError("has a null character, which no path can have; remove it")
        return value


def _extra_columns(value: Any) -> Any:
    if isinstance(value, str):
        return {value: value}
    return {name: name for name in value} if isinstance(value, list | tuple) else value


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
    decides in TSV. extra: further columns of the files that the records keep as text, such as ratings or addresses: a
    list of columns, or name -> column. home, licence, generators: for documents about the corpus, the address of the
    data set, its licence (an SPDX identifier), and the language models that wrote text of it, `[]` if none did. They
    win over those of the adapter, and change no row.
    """

    name: Name
    adapter: str | None = None
    path: str | tuple[str, ...] | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    condition: str | None = None
    priority: int = 0
    rows: int | None = Field(default=None, ge=1)
    encoding: str | None = None
    quoted: bool | None = None
    extra: Annotated[
        dict[str, str], BeforeValidator(_extra_columns, json_schema_input_type=str | list[str] | dict[str, str])
    ] = {}
    # Left out of `run.json` while they are not given.
    home: str | None = Field(default=None, exclude_if=lambda value: value is None)
    licence: str | None = Field(default=None, exclude_if=lambda value: value is None)
    generators: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)

    MAIN_KEY: ClassVar = "path"
    OTHER_NAMES: ClassVar[Mapping[str, str]] = {
        "license": "licence",
        **dict.fromkeys(("generator", "models", "synthesized_by"), "generators"),
        **dict.fromkeys(("homepage", "origin"), "home"),
        **dict.fromkeys(("file", "files", "paths", "url", "urls", "data", "data_files", "input"), "path"),
        **dict.fromkeys(("limit", "max_rows", "num_rows", "n", "sample"), "rows"),
        **dict.fromkeys(("fields", "mapping", "column_mapping", "roles"), "columns"),
        **dict.fromkeys(("format", "type", "kind", "loader", "dataset"), "adapter"),
        **dict.fromkeys(("tag", "tags", "conditions"), "condition"),
        **dict.fromkeys(("instruction", "response", "messages", "text"), "columns"),
        **dict.fromkeys(("metadata", "meta", "extras", "keep_columns", "ratings", "labels"), "extra"),
    }
    """Words for keys in other tools, for the message about an unknown key."""

    @field_validator("extra")
    @classmethod
    def _extra_names(cls, extra: dict[str, str]) -> dict[str, str]:
        taken = {*RECORD.names, *(field.name for field in DROP_FIELDS), storage.POSITION, storage.CHANGED}
        for name, column in extra.items():
            if name in taken or name.startswith(PREFIX):
                raise ValueError(f"{name!r} is a column that records have; write {{my_{name}: {column}}}")
            if not name.isidentifier():
                plain = re.sub(r"\W+", "_", name).strip("_").lower() or "column"
                raise ValueError(f"{name!r} is no name for a column of records; write {{{plain}: {column!r}}}")
        return extra

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a tuple of patterns."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else self.path


class ExactDuplicates(Section):
    """Records that are equal in all of `fields` are duplicates.

    fields: the fields that must be equal. scope: `within` compares only records of one source.
    """

    fields: tuple[TextField, ...] = Field(default=TEXT_FIELDS, min_length=1)
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

    name: Name
    adapter: str | None = None
    path: str | tuple[str, ...] | None = None
    rows: int | None = Field(default=None, ge=1)

    MAIN_KEY: ClassVar = "name"

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


class Subset(Section):
    """A part of the corpus: at most so many tokens, the last of which would be exceeded by one more row.

    tokens: with envelopes, of each row as many as the context holds. keep: which rows, a `random` set or the `longest`.
    seed: of the random set.
    """

    tokens: int = Field(ge=1)
    keep: Literal["random", "longest"] = "random"
    seed: int = Field(default=0, ge=0)

    MAIN_KEY: ClassVar = "tokens"


class TokenizerSpec(Section):
    """The tokenizer that the corpus is encoded with.

    path: an existing `tokenizer.json`. Without one, a tokenizer is trained on the corpus. vocab_size: entries of a
    trained tokenizer, special tokens included; fewer if the corpus has too few words.
    """

    path: str | None = None
    vocab_size: int = Field(default=65536, ge=512, le=1 << 20)

    MAIN_KEY: ClassVar = "path"


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

    MAIN_KEY: ClassVar = "prefix"


MAX_WEIGHT = 1000
"""The highest weight of a row, of all columns together."""

Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT, allow_inf_nan=False)]


class Sampling(Section):
    """How epochs are drawn. An epoch is a draw, not a pass: HRM-Text draws 4 times 15 B tokens from a corpus of 40 B.

    epochs: how many draws are packed. context: tokens in a pack, plus one. groups: rules by file. weights: column of
    the records -> value -> how often a row with that value stands in its file, 1 where none is given: with 2 twice,
    with 0.5 one row in two, with 0 none. Weights of several columns are multiplied. validation: share of the
    instructions that are held out of every epoch, for the validation loss.
    """

    epochs: int = Field(default=4, ge=1)
    context: int = Field(default=4097, ge=16)
    validation: float = Field(default=0.01, ge=0, le=0.5)
    groups: tuple[Group, ...] = ()
    # Left out of a step's parameters while it is empty, so that the keys of recipes without it stay what they were.
    weights: dict[str, dict[str, Weight]] = Field(default={}, exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        highest = math.prod(max(values.values(), default=1.0) for values in self.weights.values())
        if highest > MAX_WEIGHT:
            raise ValueError(f"weights: a row may have weights of {highest:g} together; {MAX_WEIGHT} at most")
        return self


def _named(stage: Any) -> Any:
    """A stage that is given by its name alone: `- thinking` is `- {kind: thinking}`."""
    return {"kind": stage} if isinstance(stage, str) else stage


def _of_plugin(registry: Registry[type[Any]], base: type[BaseModel]) -> Any:
    """Validates an item of a plugin by its own model, every other by the union of Winnow's own."""

    def validated(item: Any, validate_own: ValidatorFunctionWrapHandler) -> Any:
        kind = item.get("kind") if isinstance(item, Mapping) else None
        if not isinstance(kind, str) or kind in registry.own or kind not in registry:
            return item if isinstance(item, base) else validate_own(item)
        made, wrong = validate(registry[kind], dict(item))
        if made is None:
            raise ValueError("; ".join(problem.message for problem in wrong))
        return made

    return WrapValidator(validated)


StageName = Literal[(*STAGES.own, *CORPUS_STAGES)]  # type: ignore[valid-type]
_AnyStage = Annotated[AnyStage | AnyCorpusStage, Field(discriminator="kind")]
RecipeStage = Annotated[
    SerializeAsAny[_AnyStage],
    _of_plugin(STAGES, Stage),
    BeforeValidator(_named, json_schema_input_type=StageName | _AnyStage),
]
"""A stage as a recipe writes it: a mapping with a `kind`, or the name alone for the defaults."""

ScoreName = Literal[tuple(SCORES.own)]  # type: ignore[valid-type]
RecipeScore = Annotated[
    SerializeAsAny[AnyScore],
    _of_plugin(SCORES, Score),
    BeforeValidator(_named, json_schema_input_type=ScoreName | AnyScore),
]
"""A score as a recipe writes it: a mapping with a `kind`, or the name alone for the defaults."""


class Recipe(Section):
    """Everything that a corpus depends on.

    name: the first part of a run's id. sources: where rows come from. seed: of every draw and order. on_bad_row: `drop`
    drops rows that cannot be read with a reason, `fail` stops at the first. scores: what is measured of each row,
    before the first stage `score`, or after all stages. stages: filters, transforms and cuts at scores, in order.
    exact_duplicates: how equal rows are found; false keeps them. near_duplicates: how nearly equal rows are found;
    false keeps them. contamination: the evaluation sets that the rows are checked against; false checks none.
    subset: how many tokens of the corpus are kept, all by default; it needs `tokenizer.path`.
    tokenizer: which tokenizer encodes the corpus. sampling: what training reads. store: what a build writes besides
    packs, the `corpus` as text and the `tokens` of all rows; both by default. Without them it takes a third of the
    disk: `winnow export` writes the text when it is wanted, and rows that are packed are encoded a second time.
    mirror: a folder with copies of remote files. `hf://datasets/openai/gsm8k/...` is then read from
    `<mirror>/datasets/openai/gsm8k/...`. against: earlier runs whose rows count as already present.
    manifest: of a corpus (`winnow export --format manifest`); only the rows that it lists are kept, in its order, and
    the packs must be its own.
    """

    name: Name
    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    mirror: str | None = None
    seed: int = Field(default=0, ge=0)
    on_bad_row: Literal["drop", "fail"] = "drop"
    scores: tuple[RecipeScore, ...] = ()
    stages: tuple[RecipeStage, ...] = ()
    against: tuple[str, ...] = ()
    exact_duplicates: ExactDuplicates | Literal[False] = ExactDuplicates()
    near_duplicates: NearDuplicates | Literal[False] = NearDuplicates()
    contamination: Contamination | Literal[False] = False
    subset: Subset | None = None
    tokenizer: TokenizerSpec = TokenizerSpec()
    sampling: Sampling = Sampling()
    # Left out of `run.json` while it is the default, as of recipes before it.
    store: tuple[Literal["corpus", "tokens"], ...] = Field(
        default=("corpus", "tokens"), exclude_if=lambda value: set(value) == {"corpus", "tokens"}
    )
    # Left out of `run.json` while it is not given, as of recipes before it.
    manifest: str | None = Field(default=None, exclude_if=lambda value: value is None)

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("filters", "steps", "pipeline", "transforms"), "stages"),
        **dict.fromkeys(("source", "datasets", "dataset", "data", "inputs", "input", "files"), "sources"),
        **dict.fromkeys(("dedup", "deduplication", "minhash", "fuzzy_dedup"), "near_duplicates"),
        **dict.fromkeys(("exact_dedup",), "exact_duplicates"),
        **dict.fromkeys(("decontamination", "decontaminate", "evals"), "contamination"),
        **dict.fromkeys(("packing", "pack", "epoch"), "sampling"),
        **dict.fromkeys(("output", "out", "root"), "winnow build RECIPE --root FOLDER"),
    }
    """Words for keys in other tools, for the message about an unknown key."""

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

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """The further columns of the records, of all sources."""
        return tuple(dict.fromkeys(name for source in self.sources for name in source.extra))


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
    folder, _, file = name.rpartition("/")
    beside = [other for other in storage.files(folder or ".") if other.endswith((".yaml", ".yml"))]
    meant = near(file, [*beside, *names] if not folder else beside)
    if meant is not None:
        raise RecipeError(f"{name}: no such recipe; did you mean {storage.join(folder, meant) if folder else meant!r}?")
    raise RecipeError(f"{name}: no such recipe; give the path of a YAML file, or a name: {', '.join(names)}")


class Draft(NamedTuple):
    """A recipe as it was read. recipe: None if nothing of it could be read. problems: what is wrong; the parts that
    have a problem are then left out of `recipe`, so that the others can be checked. place: a key -> the file, and the
    line or the assignment that it comes from, for messages."""

    recipe: Recipe | None
    problems: tuple[str, ...]
    path: str = ""
    lines: Mapping[Key, int] = {}
    assigned: Mapping[Key, str] = {}
    kept: Mapping[str, tuple[int, ...]] = {}

    def in_file(self, key: Key) -> Key:
        """The key in the file, of a key in `recipe`, which lacks the items of lists that have a problem."""
        positions = self.kept.get(str(key[0])) if key else None
        return key if positions is None or len(key) == 1 else (key[0], positions[int(key[1])], *key[2:])

    def message(self, problem: Problem) -> str:
        """A problem with its place."""
        return f"{self.place(problem.key)}: {problem.message}"

    def place(self, key: Key) -> str:
        """The file with the line of a key, or of what contains it; or with the assignment that set it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.assigned:
                return f"{self.path}: {self.assigned[key[:end]]}"
        line = next((self.lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.lines), None)
        return self.path if line is None else f"{self.path}:{line}"


def load(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with assignments `path.to.key=value` applied (see `settings.override`).

    path: of the YAML file, or the name of a recipe that is installed with Winnow.

    Warns: for a key that was renamed; the category is that of the section's own warning.

    Raises: RecipeError: with every problem on a line of its own: the file and its line, the key, what to write instead.
    """
    draft = read(path, overrides)
    if draft.problems or draft.recipe is None:
        raise RecipeError("\n".join(draft.problems))
    return draft.recipe


def of_values(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with this content. Relative paths are relative to the working directory. overrides: as in `load`.

    Raises: RecipeError: as `load`.
    """
    merged, _ = assign(dict(values), overrides, partial=True)
    merged = hidden(merged)
    recipe, wrong = validate(Recipe, merged)
    if wrong or recipe is None:
        raise RecipeError("\n".join(f"recipe: {problem.message}" for problem in wrong))
    return _with_locations(recipe, str(Path("recipe.yaml").resolve()))


def read(path: str, overrides: Sequence[str] = ()) -> Draft:
    """Read a recipe with its problems. Warns: as `load`."""
    try:
        path = recipe_path(path)
        document = _of_manifest(path) or parse_document(_read_file(path))
        if not isinstance(document.value, dict):
            raise WinnowError(_no_mapping(path, document.value))
        values, assigned = assign(document.value, overrides, partial=True)
        values = hidden(values)
    except WinnowError as error:
        return Draft(None, (f"{path}: {str(error).removeprefix(f'{path}: ')}",))
    draft = Draft(None, (), path, document.lines, assigned)
    problems = [Problem(key, f"{dotted(key)!r} is there twice; keep one") for key in document.repeated]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        recipe, wrong = validate(Recipe, values)
        problems += wrong
        if recipe is None:
            left, kept = _without(values, wrong)
            recipe, _ = validate(Recipe, left)
            draft = draft._replace(kept=kept)
    # Warnings again, now with the name of the file and attributed to the caller.
    for note in notes:
        warnings.warn(f"{path}: {note.message}", note.category, stacklevel=3)
    return draft._replace(
        recipe=recipe and _with_locations(recipe, path), problems=tuple(dict.fromkeys(map(draft.message, problems)))
    )


def _of_manifest(path: str) -> Document | None:
    """The recipe that a manifest of a corpus contains; None for another file. Raises: InputError: if it is damaged."""
    if not corpus_manifest.is_manifest(path):
        return None
    manifest = CorpusManifest(path)
    return Document({**manifest.head.recipe, "manifest": storage.absolute(manifest.path)}, {}, ())


def _read_file(path: str) -> bytes:
    if storage.is_folder(path):
        raise RecipeError("a folder; name a recipe, which is one YAML file")
    if input_files.suffix(path) in FORMATS.keys() - {".json"} or path.endswith((".gz", ".zst", ".bz2", ".zip")):
        raise RecipeError("a data file, no recipe; a recipe is a YAML file that names data files under `sources`")
    return storage.read_bytes(path)


def _no_mapping(path: str, value: Any) -> str:
    if value is None:
        return "the file is empty; a recipe has at least `name` and `sources`"
    what = "a list" if isinstance(value, list) else "a single value"
    return f"this is {what}; a recipe is a mapping with at least `name` and `sources`"


def _without(
    values: dict[str, Any], problems: Sequence[Problem]
) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
    """The values without the items of lists, and the sections, that have a problem; and the indices of what is left of
    each such list, none of such a section."""
    bad: dict[str, set[int] | None] = {}
    for key, _ in problems:
        name = str(key[0]) if key else ""
        if name in ("sources", "stages", "scores") and len(key) > 1 and isinstance(key[1], int):
            if (indices := bad.setdefault(name, set())) is not None:
                indices.add(key[1])
        else:
            bad[name] = None
    kept = {name: value for name, value in values.items() if bad.get(name, ()) is not None}
    left = {
        name: tuple(index for index in range(len(values[name])) if index not in indices)
        for name, indices in bad.items()
        if indices
    }
    kept |= {name: [values[name][index] for index in indices] for name, indices in left.items()}
    left |= {name: () for name, indices in bad.items() if indices is None}
    return {"name": "recipe", **kept}, left


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
        "manifest": None if recipe.manifest is None else absolute(recipe.manifest),
        "sources": tuple(with_location(_with_address(source)) for source in recipe.sources),
        "tokenizer": with_location(recipe.tokenizer),
        "scores": tuple(with_location(score) if isinstance(score, TableScore) else score for score in recipe.scores),
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

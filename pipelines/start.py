"""Which recipe do files of the user's own need? Columns are guessed, and first rows are read as a build reads them.

`survey` looks at the files. `recipe_text` writes the recipe, with a comment for each section. A build of the text gives
the same corpus whether the text is in a file or not.
"""

from __future__ import annotations

import functools
import glob
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from pipelines.errors import InputError, MissingColumn, RecipeError, WinnowError
from pipelines.formats import pairs, roles, sniff
from pipelines.formats.blocks import looks_like_windows_1252
from pipelines.formats.read import FORMATS, Spelling
from pipelines.ledger import input_files, storage
from pipelines.recipe import MAX_NAME
from pipelines.records import conform
from pipelines.steps.source_files import check_names, file_names, row_files
from pipelines.visible import visible

SCHEMA_NAME = "recipe.schema.json"
"""The file with the recipe's JSON Schema, beside a recipe. An editor finds it without network access."""

SHOWN_RECORDS = 3
"""Records of each source that are shown."""

SURVEYED_ROWS = 1_000
"""Rows of each source that are read. With fewer rows in all, none is held out for validation."""

SMALL_BYTES = 50 << 20
"""Files of a small corpus: its tokenizer has SMALL_VOCABULARY entries, as that of `hrm_text_mini.yaml`."""

SMALL_VOCABULARY, VOCABULARY = 8_192, 65_536

CONTEXT = 4097
"""Tokens of a row at most, as of HRM-Text."""

FINE_TUNING_EPOCHS = 5
"""Epochs with which HRM-Text is fine-tuned."""


class SampleRecord(BaseModel):
    """A record as ingest makes it."""

    model_config = ConfigDict(frozen=True)

    id: str
    condition: str
    instruction: str
    response: str


class SurveyedSource(BaseModel):
    """Files with one layout, which become a source of the recipe.

    path: files, folders or globs, as the recipe names them. columns: as in the recipe. bytes: of the files. rows: that
    were read, at most about SURVEYED_ROWS. complete: whether these are all rows. unreadable: reason -> rows of these
    that are no records. unread: columns with text that are not read. records: the first.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    path: tuple[str, ...]
    columns: dict[str, str | tuple[str, ...]]
    condition: str | None
    encoding: str | None
    files: int
    bytes: int
    rows: int
    complete: bool
    unreadable: dict[str, int]
    unread: tuple[str, ...]
    records: tuple[SampleRecord, ...]


class Survey(BaseModel):
    """What was found in the user's files.

    name: of the recipe. skipped: files in folders that hold no pairs, each with the reason.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sources: tuple[SurveyedSource, ...]
    skipped: tuple[str, ...]


class Layout(NamedTuple):
    """How a file is read: part of a record -> columns, and the encoding."""

    columns: tuple[tuple[str, str | tuple[str, ...]], ...]
    encoding: str | None

    @property
    def spelling(self) -> Spelling:
        return Spelling(encoding=self.encoding)


def survey(
    arguments: Sequence[str], columns: Mapping[str, str | tuple[str, ...]] | None = None, folder: str | None = "."
) -> Survey:
    """Look at the user's files.

    arguments: paths, folders, globs or URLs. columns: as in a source of a recipe; files that lack them are guessed.
    folder: that of the recipe, to which its paths are relative; None writes absolute paths.

    Raises: InputError: naming a file that is missing, that cannot be read or has no rows. RecipeError: naming a file
        whose columns cannot be told, with the option to write; or one that holds text, but no pairs.
    """
    groups: dict[tuple[str, Layout], list[str]] = {}
    skipped: list[str] = []
    patterns = [_literal(argument) for argument in arguments]
    listed: set[str] = set()
    for pattern in patterns:
        every = [_as_given(path, pattern) for path in row_files(pattern)]
        files = [path for path in every if not _is_own(path)]
        if not files:
            raise InputError(f"{pattern}: has only files that Winnow wrote")
        single = files == [_literal_path(pattern)]
        if len(files) < len(every) or _contains_outputs(pattern):
            listed.add(pattern)
        problems: list[WinnowError] = []
        for path in files:
            try:
                layout = file_layout(path, columns)
            except WinnowError as error:
                if single:
                    raise
                problems.append(error)
                continue
            where = posixpath.dirname(path) if single else pattern
            found = groups.setdefault((where, layout), [])
            found += [] if path in found else [path]
        if problems and len(problems) == len(files):
            raise problems[0]
        skipped += map(str, problems)
    names: set[str] = set()
    sources = []
    for (where, layout), files in groups.items():
        alone = sum(pattern == where for pattern, _ in groups) == 1
        whole = where in patterns and where not in listed and alone and not skipped
        paths = [where] if whole else [_escaped(path) for path in files]
        name = _unique(_source_name(where, files), names)
        try:
            sources.append(_survey_source(name, [_relative(path, folder) for path in paths], files, layout))
        except InputError as error:
            if len(groups) == 1 or where not in patterns:
                raise
            names.discard(name)
            skipped.append(str(error))
    if not sources:
        raise InputError("; ".join(skipped))
    return Survey(name=_recipe_name(arguments, sources), sources=tuple(sources), skipped=tuple(skipped))


def _survey_source(name: str, paths: Sequence[str], files: Sequence[str], layout: Layout) -> SurveyedSource:
    columns = dict(layout.columns)
    condition = None if "condition" in columns else "direct"
    records: list[SampleRecord] = []
    unreadable: Counter[str] = Counter()
    rows, complete = 0, True
    ids = file_names(files)
    check_names(name, ids)
    for path, file in zip(files, ids, strict=True):
        for table in pairs.read_pairs(path, columns, condition, layout.spelling):
            outcome = conform(table.slice(0, SURVEYED_ROWS - rows), name, file)
            fields = list(SampleRecord.model_fields)
            records += [
                SampleRecord(**row)
                for row in outcome.kept.select(fields).slice(0, SHOWN_RECORDS - len(records)).to_pylist()
            ]
            unreadable.update(outcome.dropped["reason"].to_pylist())
            complete = complete and table.num_rows <= SURVEYED_ROWS - rows
            rows += outcome.kept.num_rows + outcome.dropped.num_rows
            if rows >= SURVEYED_ROWS:
                break
        if rows >= SURVEYED_ROWS:
            complete = complete and path == files[-1]
            break
    if not records:
        raise _nothing_read(files[0], rows, unreadable)
    return SurveyedSource(
        name=name,
        path=tuple(paths),
        columns=columns,
        condition=condition,
        encoding=layout.encoding,
        files=len(files),
        bytes=sum(map(storage.size, files)),
        rows=rows,
        complete=complete and rows < SURVEYED_ROWS,
        unreadable=dict(sorted(unreadable.items())),
        unread=tuple(pairs.unread_text(files[0], columns, layout.spelling)),
        records=tuple(records),
    )


def _nothing_read(path: str, rows: int, unreadable: Mapping[str, int]) -> InputError:
    if not rows:
        return InputError(f"{path}: has no rows")
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in unreadable.items())
    mend = sniff.mend(path)
    return InputError(
        f"{path}: none of its first {rows:,} rows is a pair of instruction and response ({reasons})"
        + (f"; {mend}" if mend else "; name other columns with --columns")
    )


# Layouts


def file_layout(
    path: str, given: Mapping[str, str | tuple[str, ...]] | None = None, allow_text: bool = False
) -> Layout:
    """How a file is read.

    given: columns; a file that lacks them is guessed. allow_text: accept a file of texts that are no pairs.

    Raises: InputError, RecipeError: as `survey`.
    """
    suffix = input_files.suffix(path)
    if suffix not in FORMATS:
        raise InputError(f"{path}: unknown format {suffix!r}; {sniff.mend(path)}")
    if storage.size(path) == 0:
        raise InputError(f"{path}: is empty")
    if what := sniff.container(path):
        raise InputError(f"{path}: {what}")
    with input_files.damage(path):
        encoding = "cp1252" if _is_text(suffix) and looks_like_windows_1252(path) else None
    try:
        columns = _columns(path, given, Spelling(encoding=encoding))
    except (InputError, RecipeError) as error:
        mend = "" if isinstance(error, MissingColumn) else sniff.mend(path)
        if not mend:
            raise
        raise InputError(f"{error}; {mend}") from error
    if roles.is_text_only(columns) and not allow_text:
        raise RecipeError(
            f"{path}: has text ({columns['text']!r}) but no pairs of instruction and response, which a corpus is built "
            "of; if two columns are a pair, name them: --columns instruction=COLUMN,response=COLUMN; `winnow scan` "
            "checks text against benchmarks"
        )
    return Layout(tuple(columns.items()), encoding)


def _columns(path: str, given: Mapping[str, str | tuple[str, ...]] | None, spelling: Spelling) -> roles.Guess:
    if not given:
        return roles.guess_columns(path, spelling)
    condition = None if "condition" in given else "direct"
    try:
        next(pairs.read_pairs(path, given, condition, spelling), None)
        return dict(given)
    except MissingColumn:
        try:
            return roles.guess_columns(path, spelling)
        except RecipeError:
            pass
        raise


def _is_text(suffix: str) -> bool:
    return suffix in (".csv", ".tsv", ".json", ".jsonl", ".ndjson")


# Names and paths


def _literal(argument: str) -> str:
    """An argument as a recipe names it: a file whose name has the characters of a glob is escaped."""
    path = str(Path(argument).expanduser()) if storage.is_local(argument) else argument
    return _escaped(path) if storage.is_local(path) and Path(path).is_file() else path


def _literal_path(pattern: str) -> str:
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


def _as_given(path: str, pattern: str) -> str:
    """A file that a pattern names, relative to the working directory if the pattern is."""
    relative = storage.is_local(pattern) and not Path(pattern).is_absolute()
    return os.path.relpath(path) if relative and Path(path).is_absolute() else path


def _is_own(path: str) -> bool:
    """Whether Winnow wrote a file: it is the schema of a recipe, or below a root."""
    if posixpath.basename(path) == SCHEMA_NAME:
        return True
    folders = Path(path).absolute().parents if storage.is_local(path) else ()
    return any((folder / "steps").is_dir() and (folder / "runs").is_dir() for folder in folders)


def _contains_outputs(pattern: str) -> bool:
    """Whether a folder that the user named contains the working directory, in which a build writes files by default."""
    return storage.is_local(pattern) and Path(pattern).is_dir() and Path.cwd().is_relative_to(Path(pattern).resolve())


def _escaped(path: str) -> str:
    return glob.escape(path) if storage.is_local(path) else path


def _relative(path: str, folder: str | None) -> str:
    """A path as the recipe in `folder` names it: relative if the user's is."""
    if not storage.is_local(path) or Path(path).is_absolute():
        return path
    if folder is None or not storage.is_local(folder):
        return posixpath.normpath(Path(path).absolute())
    return os.path.relpath(path, folder)


_SHARD = re.compile(r"[\W_]*(\d+([\W_]*of[\W_]*\d+)?)?[\W_]*$")
"""The end of a file's name that numbers it: `-00000-of-00012`, `_3`."""


_GENERIC = ("", "data", "part")
"""Names of numbered files that say nothing: their folder names them."""


def _source_name(where: str, files: Sequence[str]) -> str:
    """A name for files with one layout: of one file its own, of several what their names begin with, or the folder."""
    stems = [posixpath.basename(name) for name in map(_stem, files)]
    common = _SHARD.sub("", _common_start(stems))
    if len(stems) == 1 and (common == stems[0] or common not in _GENERIC):
        return _name_of(stems[0])
    folder = _literal_path(where).rstrip("/")
    while any(character in posixpath.basename(folder) for character in "*?[") or _known_suffix(folder):
        folder = posixpath.dirname(folder)
    return _name_of(
        common
        if len(common) > 1 and common not in _GENERIC
        else posixpath.basename(posixpath.abspath(folder) if folder else "")
    )


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    pairs_of = zip(first, last, strict=False)
    return first[: next((place for place, (one, other) in enumerate(pairs_of) if one != other), len(first))]


def _stem(path: str) -> str:
    while _known_suffix(path):
        path = posixpath.splitext(path)[0]
    return path


def _known_suffix(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in (*FORMATS, ".gz", ".zst", ".bz2")


def _name_of(text: str) -> str:
    """A text as a name that a recipe accepts: letters and digits of ASCII, `_`, `-` and `.`, not too many."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", plain)[: MAX_NAME - 10].strip("_.-") or "data"  # `_unique` adds a number


def _unique(name: str, taken: set[str]) -> str:
    """The name, with a number if a source has it already."""
    numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
    chosen = name if name not in taken else next(one for one in numbered if one not in taken)
    taken.add(chosen)
    return chosen


def _recipe_name(arguments: Sequence[str], sources: Sequence[SurveyedSource]) -> str:
    if len(sources) == 1:
        return sources[0].name
    common = _SHARD.sub("", _common_start([source.name for source in sources]))
    if len(common) > 1:
        return _name_of(common)
    return _source_name(arguments[0], ["", ""]) if len(arguments) == 1 else "corpus"


# The recipe


def recipe_text(found: Survey, command: str, tokenizer: str | None = None, context: int = CONTEXT) -> str:
    """The recipe as commented YAML.

    command: what the user typed. tokenizer, context: path and tokens of a row at most, to fine-tune a model with them.
    """
    complete = all(source.complete for source in found.sources)
    rows, size = (sum(getattr(source, name) for source in found.sources) for name in ("rows", "bytes"))
    small = complete and rows < SURVEYED_ROWS
    parts = {
        "command": visible(" ".join(command.split())),
        "name": _yaml(found.name),
        "sources": "\n".join(map(_source_lines, found.sources)),
        "tokenizer": _TRAINED if tokenizer is None else _GIVEN,
        "vocabulary": SMALL_VOCABULARY if size < SMALL_BYTES else VOCABULARY,
        "path": _yaml(tokenizer),
        "epochs": 4 if tokenizer is None else FINE_TUNING_EPOCHS,
        "context": context,
        "validation": "0" if small else "0.01",
        "held_out": f"none, of fewer than {SURVEYED_ROWS:,} rows" if small else "1 %",
        "schema": SCHEMA_NAME,
    }
    return functools.reduce(lambda text, part: text.replace(f"<{part[0]}>", str(part[1])), parts.items(), _TEMPLATE)


def _source_lines(source: SurveyedSource) -> str:
    lines = [f"# Columns with text that are not read: {', '.join(source.unread)}"] if source.unread else []
    lines += [f"- name: {_yaml(source.name)}"]
    values: dict[str, Any] = {
        "path": source.path[0] if len(source.path) == 1 else list(source.path),
        "columns": {part: list(named) if isinstance(named, tuple) else named for part, named in source.columns.items()},
        "condition": source.condition,
        "encoding": source.encoding,
    }
    lines += [f"  {key}: {_yaml(value)}" for key, value in values.items() if value is not None]
    return "\n".join(f"  {line}" for line in lines)


def _yaml(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=1 << 20)
    return text.removesuffix("\n...\n").rstrip("\n")


_TEMPLATE = """\
# yaml-language-server: $schema=<schema>
#
# Written by: <command>
#
# An unknown key is an error that names the nearest known one. Any value can be changed for one build:
# `--set near_duplicates.response=0.7`. After a change, only the steps that depend on it are made again.

name: <name>
seed: 0                           # of the draw and the order of rows; the same seed gives the same bytes
on_bad_row: drop                  # or `fail`; for rows that cannot be read, or that lack a part

# The files. `columns` maps their columns to the parts of a record; `[a, b]` joins two by an empty line. `condition`
# tells the model how a row is answered: direct, cot (with its reasoning), noisy, synth. Among duplicates the row of the
# source with the highest `priority` (0) is kept.
sources:
<sources>

# What happens to each row, in this order. Filters drop rows with a reason, transforms rewrite them. `winnow stages`
# lists all of them with their parameters.
stages:
  - {kind: repair}                # transform: undo wrong conversions of characters (mojibake)
  - {kind: thinking}              # drop answers that were cut off within their reasoning
  - {kind: strip_thinking}        # transform: remove the reasoning; `mode: keep` moves it to a column of its own
  - {kind: placeholder}           # drop empty fields, "TODO", "[Your answer here]"
  - {kind: control}               # drop texts with characters that a broken conversion left
  - {kind: refusal}               # drop "I'm sorry, but I cannot help with that"
  - {kind: truncated}             # drop answers that visibly stop in the middle
  - {kind: loop}                  # drop answers that say the same thing again and again
  # Not for every corpus:
  # - {kind: mask_pii}            # transform: replace e-mail addresses, telephone and card numbers by `[email]` ...
  # - {kind: language, languages: [en]}
  # - {kind: length, max_chars: 32768}
  # - {kind: echo}                # drop answers that repeat the question

exact_duplicates: {}              # or `false`; rows with the same instruction and response
# Rows that are nearly the same: the Jaccard similarity of both fields is at least this high, and numbers are equal.
near_duplicates: {instruction: 0.8, response: 0.8}

# Rows that contain an item of these evaluation sets are dropped. `my_test.jsonl` has a column `question`.
contamination: false
# contamination:
#   benchmarks:
#     - {name: my_test, adapter: items, path: my_test.jsonl}

<tokenizer>

# What training reads: `epochs` draws of all rows, packed into sequences of `context` - 1 tokens. `validation` is the
# share of instructions that is held out for the validation loss: <held_out>.
sampling: {epochs: <epochs>, context: <context>, validation: <validation>}
"""

_TRAINED = """\
# Trained on the corpus. The vocabulary is smaller if the corpus has not enough words.
tokenizer: {vocab_size: <vocabulary>}"""

_GIVEN = """\
# That of the model to fine-tune: its weights know no other tokens.
tokenizer: {path: <path>}"""

"""Which files does a recipe read, and can they be read? Checked before anything is computed."""

from __future__ import annotations

import codecs
import fnmatch
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipelines.errors import InputError, MissingColumn, RecipeError, Unreachable, near, nearest
from pipelines.formats import pairs
from pipelines.formats.read import FORMATS, Spelling, read, spans, text_columns
from pipelines.formats.roles import role_meant
from pipelines.formats.span import WHOLE, Span
from pipelines.ledger import input_files, storage
from pipelines.ledger.input_files import Identity
from pipelines.recipe import Recipe, SourceSpec
from pipelines.records import CONDITIONS
from pipelines.sources import SOURCES


class Input(NamedTuple):
    """One file that a recipe reads.

    path: "" for a source that is computed. file: its name in ids. bytes: its size, -1 if it is missing. why: the reason
    for which it is missing. begun: what a build found it to be when it began.
    """

    source: str
    path: str
    file: str
    bytes: int
    why: str = ""
    begun: Identity | None = None

    @property
    def missing(self) -> bool:
        """Whether there is no file at this path."""
        return self.bytes < 0


def plan_inputs(recipe: Recipe) -> list[Input]:
    """Every file that the recipe reads, in order. Missing ones have `bytes` -1.

    Raises: RecipeError: naming the source and the key, if the keys of a source do not fit together.
    """
    unreachable: dict[str, str] = {}
    return [file for spec in recipe.sources for file in _inputs(spec, unreachable)]


def check_inputs(recipe: Recipe) -> list[Input]:
    """Every file that the recipe reads, after a check that all are present and have the columns that it names.

    Raises: RecipeError: as `plan_inputs`. InputError: naming a file that is missing, damaged or lacks a column.
    """
    unreachable: dict[str, str] = {}
    return [file for spec in recipe.sources for file in check_source(spec, unreachable)]


def check_source(
    spec: SourceSpec, unreachable: dict[str, str], present: bool = True, columns: bool = True
) -> list[Input]:
    """The files of one source, after the same check. unreachable: store -> reason, shared by the sources of a recipe.
    present: whether the files must be there. columns: whether they are read.

    Raises: as `check_inputs`.
    """
    files = _inputs(spec, unreachable)
    missing = [file for file in files if file.missing]
    if missing and present:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        why = missing[0].why or f"{missing[0].path}: not a file that can be read (a pipe, or a link to nothing)"
        raise InputError(f"source {spec.name!r}: {why}{more}")
    check_names(spec.name, [file.file for file in files])
    if present and columns:
        _check_columns(spec, files)
    return files


def check_names(source: str, names: Iterable[str]) -> None:
    """Check that names of files can be a part of the ids of their rows. Raises: InputError: if one cannot."""
    for name in names:
        if any(unicodedata.category(character) in NOT_IN_IDS for character in name):
            raise InputError(
                f"source {source!r}: {name!r}: ids of rows have the file's name, and this one has a line break, a "
                "control character or bytes that are not UTF-8; rename the file"
            )


NOT_IN_IDS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of characters that no id has: controls, bytes of a name that is not UTF-8, breaks of lines."""


def _inputs(spec: SourceSpec, unreachable: dict[str, str]) -> list[Input]:
    """The files of one source. unreachable: store -> reason; filled here, so that a silent store is asked only once."""
    _check(spec)
    if not spec.paths:
        return [Input(spec.name, "", "generated", 0)]
    present: dict[str, None] = {}
    missing = []
    for pattern in spec.paths:
        store = "" if storage.is_local(pattern) else "/".join(pattern.split("/")[:3])
        try:
            if store in unreachable:
                raise Unreachable(f"{pattern}: {unreachable[store]}")
            present.update(dict.fromkeys(row_files(pattern) if spec.adapter is None else input_files.expand(pattern)))
        except InputError as error:
            why = str(error)
            if isinstance(error, Unreachable):
                unreachable.setdefault(store, why.removeprefix(f"{pattern}: "))
            missing.append(Input(spec.name, pattern, "", -1, why))
    paths = list(present)
    return [
        Input(spec.name, path, name, storage.size(path)) for path, name in zip(paths, file_names(paths), strict=True)
    ] + missing


ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "cp1251", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr")
"""Common encodings, for the message about an unknown one."""

NOT_ROWS = (
    *("README*", "LICENSE*", "*.md", "*.txt", "*.py", "*.yaml", "*.yml", "*.lock", "*.crc", "*.sha256", "_SUCCESS"),
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
)
"""Files that lie beside data files in folders, of repositories, of `datasets.save_to_disk` and of Spark."""


def row_files(pattern: str) -> list[str]:
    """The files of rows that a path, folder or glob names; of a folder of `datasets.save_to_disk` those that it lists.

    Raises: InputError: as `input_files.expand`, if only files that are no rows are there, and if the folder is a
        `DatasetDict` with several splits: a test split is not read unless it is named.
    """
    paths = input_files.expand(pattern)
    if paths == [pattern]:
        return paths
    for path in paths:
        if posixpath.basename(path) == "dataset_dict.json":
            splits: list[str] = storage.read_json(path).get("splits") or []
            if len(splits) > 1:
                raise InputError(
                    f"{pattern}: has the splits {', '.join(splits)}; name one: {posixpath.dirname(path)}/{splits[0]}"
                )
    found = [path for path in paths if not any(fnmatch.fnmatch(posixpath.basename(path), name) for name in NOT_ROWS)]
    for state in (path for path in paths if posixpath.basename(path) == "state.json"):
        folder = posixpath.dirname(state)
        names = {one["filename"] for one in storage.read_json(state).get("_data_files") or ()}
        # Beside them, `map` and `filter` of the library leave copies in files called `cache-*`.
        found = [path for path in found if posixpath.dirname(path) != folder or posixpath.basename(path) in names]
    if not found:
        raise InputError(f"{pattern}: no files of rows ({' '.join(FORMATS)}), only {', '.join(paths[:5])}")
    return found


def _check(spec: SourceSpec) -> None:
    """Raises: RecipeError: if the keys of the source do not fit together."""
    where = f"source {spec.name!r}"
    if spec.condition is not None:
        for tag in spec.condition.split(","):
            if tag not in CONDITIONS:
                raise RecipeError(
                    f"{where}: condition: unknown tag {tag!r}; {nearest(tag, CONDITIONS)}; several are joined by commas"
                )
    if spec.encoding is not None:
        try:
            codecs.lookup(spec.encoding)
        except LookupError:
            raise RecipeError(
                f"{where}: unknown encoding {spec.encoding!r}; {nearest(spec.encoding, ENCODINGS)}"
            ) from None
    if spec.adapter is None:
        if not spec.paths:
            raise RecipeError(f"{where}: give it a `path`, or an `adapter` that computes its rows")
        _check_columns_key(spec, where)
        return
    if spec.adapter not in SOURCES:
        raise RecipeError(f"{where}: unknown adapter {spec.adapter!r}; {nearest(spec.adapter, SOURCES)}")
    if spec.extra:
        raise RecipeError(f"{where}: the adapter {spec.adapter!r} decides what is read; give `columns` to read `extra`")
    for key in ("columns", "encoding", "quoted"):
        if getattr(spec, key) is not None:
            raise RecipeError(f"{where}: the adapter {spec.adapter!r} knows its {key}; leave out `{key}`, or `adapter`")
    if SOURCES[spec.adapter].read is None:
        if spec.paths:
            raise RecipeError(f"{where}: the adapter {spec.adapter!r} computes its rows; leave out `path`")
        if spec.rows is None:
            raise RecipeError(f"{where}: the adapter {spec.adapter!r} computes its rows; say how many: `rows: 1000`")
    elif not spec.paths:
        raise RecipeError(f"{where}: the adapter {spec.adapter!r} reads files; give their `path`")


def _check_columns_key(spec: SourceSpec, where: str) -> None:
    columns = columns_of(spec)
    known = ("instruction", "response", "condition", "messages", "thinking", "text")
    for name in columns:
        if name not in known:
            meant = None if near(name, known) else role_meant(name)
            hint = nearest(name, known) if meant is None else f"write {{{meant}: {_written(columns[name])}}}"
            raise RecipeError(f"{where}: columns: unknown key {name!r}; {hint}")
        read_from = pairs.columns_read(columns, name)
        if not read_from or len(set(read_from)) < len(read_from):
            raise RecipeError(f"{where}: columns: {name}: name one column, or several different ones")
        if len(read_from) > 1 and name not in pairs.JOINED:
            raise RecipeError(
                f"{where}: columns: {name} is one column; only {', '.join(pairs.JOINED)} are joined of several"
            )
    complete = [name for name in ("messages", "text") if name in columns]
    if len(complete) > 1 or (complete and ("instruction" in columns or "response" in columns)):
        raise RecipeError(f"{where}: columns: give `instruction` and `response`, or `messages`, or `text` alone")
    if not complete:
        for name in ("instruction", "response"):
            if name not in columns:
                raise RecipeError(
                    f"{where}: columns: {name!r} is missing; write {{instruction: <column>, response: <column>}}"
                )
    if "condition" not in columns and spec.condition is None:
        raise RecipeError(
            f"{where}: say the `condition` of its rows ({', '.join(CONDITIONS)}; several joined by commas)"
        )


def _written(column: str | Sequence[str]) -> str:
    return column if isinstance(column, str) else f"[{', '.join(column)}]"


def columns_of(spec: SourceSpec) -> pairs.Columns:
    """The columns of files without adapter. The default are the columns of a record as HRM-Text writes it."""
    if spec.columns is not None:
        return spec.columns
    names = ("instruction", "response") if spec.condition is not None else ("instruction", "response", "condition")
    return {name: name for name in names}


def spelling_of(spec: SourceSpec) -> Spelling:
    """How the text files of a source are written."""
    return Spelling(quoted=spec.quoted, encoding=spec.encoding)


def unread_text(spec: SourceSpec, files: Sequence[Input]) -> tuple[str, ...]:
    """The columns with text in a source's first file that the recipe does not name: most likely something is lost.

    Of a source with an adapter none: it reads what belongs to the records.

    Raises: InputError: if the file cannot be read.
    """
    present = [file for file in files if file.source == spec.name and file.path and not file.missing]
    if spec.adapter is not None or not present:
        return ()
    return tuple(pairs.unread_text(present[0].path, columns_of(spec), spelling_of(spec), spec.extra))


def spans_of(spec: SourceSpec, file: Input) -> list[Span]:
    """The parts of a file that tasks read apart, in order. An adapter reads a file as a whole."""
    if spec.adapter is not None:
        return [WHOLE]
    return spans(file.path, file.bytes if file.begun is None else file.begun.size, spelling_of(spec))


def raw_rows(spec: SourceSpec, path: str, span: Span = WHOLE) -> Iterator[pa.Table]:
    """RAW tables of one file, or a span of it, of a source that has files."""
    if spec.adapter is None:
        return pairs.read_pairs(path, columns_of(spec), spec.condition, spelling_of(spec), spec.extra, span)
    source = SOURCES[spec.adapter]
    assert source.read is not None, "checked in plan_inputs"
    return source.read(path)


def file_names(paths: Sequence[str]) -> list[str]:
    """The names of files in ids: paths below their common folder, without suffixes unless two would be equal.

    paths: each once.
    """
    folders = [posixpath.dirname(path) for path in paths]
    base = posixpath.commonpath(folders) if folders and all(folders) else ""
    relative = [posixpath.relpath(path, base) if base else path for path in paths]
    names = [_stem(name) for name in relative]
    # A whole name may be the stem of another file (`a.csv` and `a.csv.jsonl`), so this is repeated until none is.
    while True:
        twice = {name for name, count in Counter(names).items() if count > 1}
        if not twice:
            return names
        names = [whole if name in twice else name for whole, name in zip(relative, names, strict=True)]


def _stem(name: str) -> str:
    stem, extension = posixpath.splitext(name)
    if extension.lower() in (".gz", ".zst", ".bz2"):
        stem, extension = posixpath.splitext(stem)
    return stem if extension.lower() in FORMATS else name


def _check_columns(spec: SourceSpec, files: Sequence[Input]) -> None:
    """Read the first rows of files without adapter, whose columns the user named, and of an adapter's local files.

    Raises: InputError: if a file lacks a column, or all files lack one that single files may lack.
    """
    if spec.adapter is not None:
        adapter_read = SOURCES[spec.adapter].read
        for file in files if adapter_read is not None else ():
            if file.path and storage.is_local(file.path):
                assert adapter_read is not None
                next(iter(adapter_read(file.path)), None)
        return
    columns, spelling = columns_of(spec), spelling_of(spec)
    for file in files:
        next(pairs.read_pairs(file.path, columns, spec.condition, spelling, spec.extra), None)
    for name in pairs.further_columns(columns):
        problem = None
        for file in files:
            try:
                next(read(file.path, text_columns(name), spelling=spelling), None)
                break
            except MissingColumn as error:
                problem = problem or error
        else:
            if problem is not None:
                raise problem

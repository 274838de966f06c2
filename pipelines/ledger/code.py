"""Which code does the work of a step run? The definitions that it reaches, and the libraries that these use.

The key of a step holds a digest of both, so a step is made again when code changes what it does. Nobody declares this:
`code_of` begins at the function that `Run.do` is given, and at the functions and classes that it holds, and follows
names through the sources: of a function, class or constant those of its statement, through imports to other modules.

The unit is the statement at the top of a module, not the module: a new key of recipes does not run a corpus again.
Docstrings, lines of comments and blank lines do not count. Values of a `Registry` and step types are not followed: a
recipe chooses among the former, so steps name those that they use; the latter say what is made of a recipe's keys.

The sources are parsed once: what was read of a file is kept, beside Python's own cache of it, with its times and size.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import pickle
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import xxhash

from pipelines.errors import CheckFailed

PACKAGES = ("dedup", "filters", "pipelines", "training", "flows")
"""Winnow's own packages. All lie in one folder, in a checkout and when they are installed."""

PLUMBING = frozenset(
    {
        "pipelines.ledger.run:Run",
        "pipelines.ledger.run:StepContext",
        "pipelines.recipe:Recipe",
        "pipelines.steps.step:Build",
        "pipelines.steps.step:RecipeStep",
    }
)
"""Definitions that are not followed: they run items of work or choose steps, and decide nothing that work writes. With
them every step would depend on the code of all others."""

CHOICES = frozenset({"Registry", "StepType", "RecipeStep", "StepGroup"})
"""Classes whose values, bound at the top of a module, are not followed."""

DISTRIBUTIONS = {"fasttext": "fasttext-community", "sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Name of a module -> the package that has it, where the names differ."""

WITHOUT_EFFECT = frozenset({"fsspec", "psutil", "pydantic", "s3fs", "gcsfs", "botocore", "httpx", "aiohttp", "tqdm"})
"""Libraries that decide no byte of a product: they carry bytes, check settings or report."""

SETTLED_NANOSECONDS = 2_000_000_000
"""A source that changed so shortly ago may change again and keep its times, which are coarse: it is not kept."""

WITH_TABLES = {"unicodedata": unicodedata.unidata_version}
"""Modules of Python whose tables decide bytes and change with its version -> the version."""

Reference = tuple[str, str | None]
"""A module and a name in it; the whole module for None."""

Node = tuple[str, int | None]
"""A module and the number of a statement in it; or a library and None."""


class _Source(NamedTuple):
    """What is read of a module's file, as JSON values.

    names: name at the top -> numbers of the statements that bind it. imports: name -> [module, name in it or None].
    statements: digest, and names that it uses, with what is asked of them: `storage.write_parquet`. loose: numbers of
    the statements that bind nothing. They run when the module is imported, so they always count.
    """

    names: dict[str, list[int]]
    imports: dict[str, list[list[str | None]]]
    statements: list[tuple[str, list[str]]]
    loose: list[int]


def code_of(work: Callable[..., Any], uses: Iterable[object] = ()) -> dict[str, str]:
    """Module -> digest of what `work` reaches in it, and library -> version. `values` -> digest of the data in `uses`.

    work: it may hold values: of its `functools.partial` and of the functions around it. uses: what work looks up by
    name, in a registry.
    """
    read: dict[str, dict[int, str]] = {}
    code = {}
    for module, number in _reached(work, uses):
        source = _sources().read(module) if number is not None else None
        if source is None or number is None:
            code[module] = _version(module)
        else:
            read.setdefault(module, {})[number] = source.statements[number][0]
    _sources().keep()
    code |= {module: _digest("".join(own[number] for number in sorted(own))) for module, own in read.items()}
    if data := [value for value in _held(uses, data=True) if isinstance(value, bytes)]:
        code["values"] = _digest(b"\n".join(data))
    return dict(sorted(code.items()))


def definitions(work: Callable[..., Any], uses: Iterable[object] = ()) -> set[str]:
    """`<module>:<name>` of all functions, classes and constants that count for the digest of `work`."""
    reached = _reached(work, uses)
    sources = {module: source for module, _ in reached if (source := _sources().read(module))}
    return {
        f"{module}:{name}"
        for module, source in sources.items()
        for name, numbers in source.names.items()
        if any((module, number) in reached for number in numbers)
    }


def _reached(work: Callable[..., Any], uses: Iterable[object]) -> set[Node]:
    """(module, number of a statement), and (library, None)."""
    waiting = [node for value in _held([work, *uses]) for node in _begin(value)]
    reached = set(waiting)
    while waiting:
        for node in _next(waiting.pop()):
            if node not in reached:
                reached.add(node)
                waiting.append(node)
    return reached


def _held(values: Iterable[object], data: bool = False) -> Iterator[Any]:
    """The functions and classes among values and in what they hold, and the classes of other values.

    data: also what is neither, as bytes.
    """
    waiting, seen = list(values), set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, FunctionType | type) or hasattr(value, "py_func"):  # the last is a kernel
            if data:
                yield f"{value.__module__}:{getattr(value, '__qualname__', '')}".encode()
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield value
            cells = getattr(value, "__closure__", None) or ()
            waiting += [cell.cell_contents for cell in cells if _is_set(cell)]
        elif isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.items()]
        elif isinstance(value, MethodType):
            waiting += [value.__func__, value.__self__]
        elif hasattr(value, "__wrapped__"):  # `functools.cache`
            waiting.append(value.__wrapped__)
        elif isinstance(value, tuple | list | set | frozenset | dict):
            if type(value).__module__ != "builtins":
                yield type(value)
            waiting += (
                value.items()
                if isinstance(value, dict)
                else sorted(value, key=repr)
                if isinstance(value, set | frozenset)
                else value
            )
        elif type(value).__module__.split(".")[0] in (*sys.stdlib_module_names, "pyarrow", "numpy"):
            if data:
                yield _as_bytes(value)
        else:
            yield type(value)


def _as_bytes(value: object) -> bytes:
    try:
        return pickle.dumps(value, 4)
    except (AttributeError, TypeError, pickle.PicklingError):  # a file, a lock, a module
        return type(value).__name__.encode()


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  raises if the name is bound later
    except ValueError:
        return False
    return True


def _begin(value: Any) -> Iterator[Node]:
    """The statements that define a function or class, all of its module for one that is defined within a statement that
    cannot be found by its name."""
    module, name = value.__module__, value.__qualname__.split(".")[0]
    if f"{module}:{name}" not in PLUMBING and _path(module):
        source = _sources().read(module)
        assert source is not None
        yield from _resolved((module, name if name in source.names else None))
        for number in source.loose:
            yield module, number


@functools.cache
def _next(node: Node) -> tuple[Node, ...]:
    """What a statement uses, and the loose statements of its module."""
    module, number = node
    source = _sources().read(module) if number is not None else None
    if source is None or number is None:
        return ()
    found: dict[Node, None] = dict.fromkeys((module, loose) for loose in source.loose)
    for used in source.statements[number][1]:
        name, _, asked = used.partition(".")
        references: list[Reference] = [(module, name)] if name in source.names else []
        for target, own in source.imports.get(name, ()):
            assert target is not None
            whole = target if own is None else f"{target}.{own}"
            is_module = own is None or bool(_path(whole))
            references.append((whole, asked.split(".")[0] or None) if is_module else (target, own))
        for reference in references:
            found |= dict.fromkeys(_resolved(reference))
    return tuple(found)


@functools.cache
def _resolved(reference: Reference) -> tuple[Node, ...]:
    """The statements of a name, also of one that its module imports from another; or the library that it is of."""
    module, name = reference
    if f"{module}:{name}" in PLUMBING:
        return ()
    source = _sources().read(module)
    if source is None:
        library = module.split(".")[0]
        known = library in WITHOUT_EFFECT or library in PACKAGES
        known |= library in sys.stdlib_module_names and library not in WITH_TABLES
        return () if known else ((library, None),)
    if name is None:
        return tuple((module, number) for number in range(len(source.statements)))
    if name in source.names:
        return tuple((module, number) for number in source.names[name])
    found: list[Node] = []
    for target, own in source.imports.get(name, ()):
        assert target is not None
        is_module = own is None or bool(_path(f"{target}.{own}"))
        found += _resolved((f"{target}.{own}" if own else target, None) if is_module else (target, own))
    return tuple(found)


@functools.cache
def _path(module: str) -> str:
    """The file of a module, "" if it is a library's, or none."""
    top = module.split(".")[0]
    if top in PACKAGES:
        place = _FOLDER.joinpath(*module.split("."))
        return next((str(path) for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), "")
    if top in sys.stdlib_module_names:
        return ""
    # Of a plugin, or of a script: what is imported from a place where nothing is installed.
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    if not file:  # it is imported within a function, and has not been yet; nothing is imported to find it
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            file = getattr(importlib.util.find_spec(top), "origin", None) or ""
        if module != top:
            place = Path(file).parent.joinpath(*module.split(".")[1:])
            file = next((str(one) for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file()), "")
    return "" if "site-packages" in file or not file.endswith(".py") else file


_FOLDER = Path(__file__).resolve().parents[2]

_STARTED = time.time_ns()


@functools.cache
def _version(library: str) -> str:
    if library in WITH_TABLES:
        return WITH_TABLES[library]
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        return "none"


# What is read of files


class _Sources:
    """The modules read so far, and those that were read by an earlier process."""

    def __init__(self) -> None:
        self._modules: dict[str, _Source | None] = {}
        self._files: dict[str, list[Any]] = {}  # path -> state and source
        self._changed = False
        for folder in _cache_folders():
            with contextlib.suppress(OSError, ValueError):
                files = json.loads(Path(folder, CACHE).read_bytes())
                if files.pop("format") == FORMAT:
                    self._files = files
                    break

    def read(self, module: str) -> _Source | None:
        """The source of a module; None for a library's."""
        if module not in self._modules:
            path = _path(module)
            package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
            self._modules[module] = self._read(path, package) if path else None
        return self._modules[module]

    def _read(self, path: str, package: str) -> _Source:
        found = Path(path).stat()
        if found.st_ctime_ns > _STARTED and path.startswith(str(_FOLDER)):
            raise CheckFailed(f"{path}: changed while this process runs, which has the former code; start it again")
        state = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        kept = self._files.get(path)
        if kept is not None and kept[0] == state:
            return _Source(*kept[1])
        source = analyse(Path(path).read_text(encoding="utf-8"), package)
        if time.time_ns() - found.st_ctime_ns > SETTLED_NANOSECONDS:
            self._files[path] = [state, source]
            self._changed = True
        return source

    def keep(self) -> None:
        """Write what was read, for the next process. A folder that cannot be written to costs time, nothing else."""
        if not self._changed:
            return
        self._changed = False
        for folder in _cache_folders():
            aside = Path(folder, f".{CACHE}.{os.getpid()}.tmp")
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
                aside.write_text(json.dumps({"format": FORMAT, **self._files}, separators=(",", ":")))
                aside.replace(Path(folder, CACHE))
                return
            except OSError:
                with contextlib.suppress(OSError):
                    aside.unlink()


CACHE = "winnow-code.json"

FORMAT = 1
"""Of the cache: raise it when `analyse` changes."""


def _cache_folders() -> Sequence[str]:
    """Beside Python's cache of this module; where Python may not write that, the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    beside = [] if sys.dont_write_bytecode else [str(Path(__file__).parent / "__pycache__")]
    return [*beside, str(Path(user, "winnow", _digest(str(_FOLDER))))]


@functools.cache
def _sources() -> _Sources:
    return _Sources()


def analyse(text: str, package: str) -> _Source:
    """Read the text of a module. package: that relative imports begin at."""
    tree, lines = ast.parse(text), text.splitlines()
    dropped = _lines_without_effect(tree, lines)
    source = _Source({}, {}, [], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                source.imports.setdefault(name, []).append([alias.name if alias.asname else name, None])
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                source.imports.setdefault(alias.asname or alias.name, []).append([target, alias.name])
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        bound = sorted(set(_bound(node)))
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        assert node.end_lineno is not None
        kept = [lines[at - 1] for at in range(first, node.end_lineno + 1) if at not in dropped]
        used = set() if _is_choice(node) else set(_used(node))
        source.statements.append(("" if _is_choice(node) else _digest("\n".join(kept)), sorted(used)))
        for name in bound:
            source.names.setdefault(name, []).append(len(source.statements) - 1)
        if not bound:
            source.loose.append(len(source.statements) - 1)
    known = source.names.keys() | source.imports.keys()
    statements = [
        (digest, [name for name in used if name.split(".")[0] in known]) for digest, used in source.statements
    ]
    return source._replace(statements=statements)


def _lines_without_effect(tree: ast.Module, lines: Sequence[str]) -> set[int]:
    """The numbers of blank lines and of those of docstrings and comments."""
    dropped = {at for at, line in enumerate(lines, 1) if not line.strip() or line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and (node.end_lineno or 0) > node.lineno:
            dropped -= {*range(node.lineno, (node.end_lineno or 0) + 1)}  # a text may have such lines
    for node in ast.walk(tree):
        for own in getattr(node, "body", ()) if isinstance(getattr(node, "body", ()), list) else ():
            if _is_text(own) and lines[own.lineno - 1].lstrip()[:1] in "\"'rRfFbBuU":
                dropped |= {*range(own.lineno, own.end_lineno + 1)}
    return dropped


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring, of anything."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_choice(node: ast.AST) -> bool:
    value = getattr(node, "value", None) if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in CHOICES


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds or changes at the top of a module."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        return
    targets: list[ast.AST] = [*getattr(node, "targets", ()), getattr(node, "target", None) or ast.Pass()]
    targets += [item.optional_vars for item in getattr(node, "items", ()) if item.optional_vars]
    if type(node).__name__ == "TypeAlias":
        targets.append(node.name)  # type: ignore[attr-defined]
    for target in targets:
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))
    for field in ("body", "orelse", "finalbody", "handlers"):
        for own in getattr(node, field, ()) if isinstance(getattr(node, field, ()), list) else ():
            yield from _bound(own)


def _used(node: ast.AST) -> Iterator[str]:
    """The names that a statement uses, with the attributes that it asks of them."""
    if isinstance(node, ast.Name):
        yield node.id
        return
    if isinstance(node, ast.Attribute):
        names = [node.attr]
        inner = node.value
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield ".".join([inner.id, *reversed(names)])
            return
    for child in ast.iter_child_nodes(node):
        yield from _used(child)


def _digest(content: str | bytes) -> str:
    return xxhash.xxh3_64(content.encode() if isinstance(content, str) else content).hexdigest()

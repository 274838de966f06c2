"""Settings from YAML and from `--set key=value`: the one loader and the one parser for recipes and training."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from pipelines.errors import WinnowError, nearest

Path = tuple[str | int, ...]
"""A key with its parents: names of mappings' keys and indices of lists."""


class Loader(yaml.SafeLoader):
    """YAML without what version 1.2 has removed: `on` and `no` (a key, and the code for Norwegian), `010` (no octal
    number), `1:30` (not 90) and `2026-11-01` are strings.

    A field that takes a number reads `010` as 10. What is no string here is none for PyYAML either, so that a string
    which PyYAML writes is read as one.
    """


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


_OTHERWISE = {_tag(name) for name in ("bool", "int", "float", "timestamp")}
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(_tag("bool"), re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver(
    _tag("int"),
    re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)$"),
    list("-+0123456789"),
)
Loader.add_implicit_resolver(
    _tag("float"),
    re.compile(
        r"^(?:(?:[-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML document.

    Raises: yaml.YAMLError, UnicodeDecodeError: if the text is not YAML.
    """
    loader = Loader(text)
    node = _compose(loader)
    return None if node is None else loader.construct_document(node)


MAX_VALUES = 200_000
"""Values of a document. A few aliases of aliases can stand for billions."""


def _compose(loader: Loader) -> yaml.Node | None:
    """The tree of a document; None for an empty one. Raises: yaml.YAMLError: if it is too large."""
    node = loader.get_single_node()
    if node is not None and (size := _size(node, {})) > MAX_VALUES:
        what = "an alias stands for a value that contains it" if size == math.inf else "its aliases stand for too much"
        raise yaml.MarkedYAMLError(problem=f"{what}; write the values out", problem_mark=node.start_mark)
    return node


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Values in a node, those of an alias each time that it is used; infinite if a node contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until its parts are counted: only a node that contains itself asks meanwhile
        parts = (part for pair in node.value for part in pair) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


class Document(NamedTuple):
    """A YAML document. lines: key or index of a list, as a path -> its line, from 1. repeated: keys that a section has
    twice."""

    value: Any
    lines: Mapping[Path, int]
    repeated: tuple[Path, ...]


def parse_document(text: bytes) -> Document:
    """The value of a YAML document, and where each part of it stands.

    Raises: WinnowError: if the text is not YAML, with the line and the column.
    """
    try:
        loader = Loader(text.decode("utf-8-sig"))
        node = _compose(loader)
        if node is None:
            return Document(None, {}, ())
        lines: dict[Path, int] = {}
        repeated: list[Path] = []
        for path, at in _places(node, ()):
            if path in lines:
                repeated.append(path)
            lines[path] = at.start_mark.line + 1
        return Document(loader.construct_document(node), lines, tuple(repeated))
    except UnicodeDecodeError as error:
        raise WinnowError(f"not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise WinnowError(yaml_problem(error)) from None
    except (ValueError, RecursionError) as error:  # brackets a thousand deep
        raise WinnowError(f"not YAML: {error}") from None


def _places(node: yaml.Node, path: Path) -> Iterator[tuple[Path, yaml.Node]]:
    """Every key and list item below a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                yield (*path, key.value), key
                yield from _places(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item
            yield from _places(item, (*path, index))


_YAML_PROBLEMS = (
    (r"character '\\t'", "a tab; indent with spaces"),
    (
        r"mapping values are not allowed",
        "a second `: ` in this line; put text that contains `: ` in quotes, or begin a new line",
    ),
    (r"expected <block end>, but found '-'", "`-` is not in the column of the list's other items; indent them alike"),
    (
        r"expected <block end>|found unexpected indentation|inconsistent",
        "this line is not indented like the keys of its section",
    ),
    (r"could not find expected ':'", "a line without `: `; write `key: value`, and indent the lines of a long text"),
    (
        r"expected ',' or '[\]}]'|expected the node content, but found '<stream end>'",
        "a bracket `[` or `{` is not closed, or a comma is missing",
    ),
    (r"expected the node content, but found", "a value is missing here, or there is a bracket or comma too many"),
    (r"scanning a quoted scalar.*unexpected end of stream", "a quote is not closed"),
    (r"unknown escape character", "`\\` has a meaning in double quotes; use single quotes, or `/` in paths"),
    (
        r"scanning an alias|undefined alias|scanning an anchor",
        "`*` or `&` begins a reference in YAML; put the text in quotes",
    ),
    (
        r"constructor for the tag|scanning a tag|parsing a node.*undefined tag",
        "`!` begins a type in YAML; put the text in quotes",
    ),
    (r"cannot start any token", "a value cannot begin with this character; put it in quotes"),
    (r"expected a single document", "`---` begins a second document; a file has one"),
    (r"unhashable|found unhashable", "a key is a list or mapping; a word in braces or brackets goes in quotes"),
    (r"special characters are not allowed", "not a text file"),
)
"""What PyYAML says -> what the reader can do."""


def yaml_problem(error: yaml.YAMLError) -> str:
    """A mistake in YAML in plain words, with its line and column."""
    said = " ".join(str(error).split())
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    plain = next((plain for pattern, plain in _YAML_PROBLEMS if re.search(pattern, said)), None)
    if plain == "a quote is not closed":
        mark = getattr(error, "context_mark", None) or mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}not YAML: {plain or getattr(error, 'problem', None) or said}"


class Override(NamedTuple):
    """Settings after assignments. assigned: the path that each assignment set -> the assignment."""

    values: dict[str, Any]
    assigned: Mapping[Path, str]


def override(values: dict[str, Any], assignments: Sequence[str], partial: bool = False) -> dict[str, Any]:
    """A copy of nested settings with assignments `path.to.key=value` applied in order. Values are YAML.

    An item of a list is named by its `kind`, its `name` or its index: `sources.0.rows=10`. partial: `values` leaves out
    keys that have a default, as a recipe does. A key that is missing is then added, and a value may become a section;
    whoever validates the result reports unknown keys. Otherwise every key must be present.

    Raises: WinnowError: naming the assignment and the nearest known key.
    """
    return assign(values, assignments, partial).values


def assign(values: dict[str, Any], assignments: Sequence[str], partial: bool = False) -> Override:
    """As `override`, with the paths that were set."""
    result = copy.deepcopy(values)
    assigned: dict[Path, str] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not all(path.split(".")):
            raise WinnowError(f"--set {assignment}: write key=value, with dots between the parts of a key")
        try:
            value = parse_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            said = yaml_problem(error) if isinstance(error, yaml.YAMLError) else str(error)
            raise WinnowError(
                f"--set {assignment}: the value is not YAML: {said.rpartition('not YAML: ')[2]}"
            ) from None
        *parents, last = path.split(".")
        section: Any = result
        done: list[str | int] = []
        for name in parents:
            done.append(_index(section, name, assignment) if isinstance(section, list) else name)
            section = _child(section, name, assignment, partial)
        if isinstance(section, list):
            index = _index(section, last, assignment)
            section[index] = value
            assigned[(*done, index)] = f"--set {assignment}"
            continue
        if not partial:
            _check_known(section, last, assignment)
            if isinstance(section[last], dict):
                raise WinnowError(
                    f"--set {assignment}: {last!r} is a section; set one of its keys ({', '.join(section[last])})"
                )
        section[last] = value
        assigned[(*done, last)] = f"--set {assignment}"
    return Override(result, assigned)


def _child(section: Any, name: str, assignment: str, partial: bool) -> Any:
    """The section or list inside a section or list."""
    if isinstance(section, list):
        index = _index(section, name, assignment)
        if isinstance(section[index], str) and partial:  # a stage by its name alone
            section[index] = {"kind": section[index]}
        child = section[index]
        if not isinstance(child, dict | list):
            raise WinnowError(f"--set {assignment}: {name!r} has no keys")
        return child
    if not partial:
        _check_known(section, name, assignment)
    child = section.get(name)
    if isinstance(child, dict | list):
        return child
    if not partial:
        raise WinnowError(f"--set {assignment}: {name!r} has no keys")
    # Absent, or a value such as `near_duplicates: false`.
    section[name] = {}
    return section[name]


def _check_known(section: dict[str, Any], name: str, assignment: str) -> None:
    if name not in section:
        raise WinnowError(f"--set {assignment}: unknown key {name!r}; {nearest(name, section)}")


def _index(items: list[Any], name: str, assignment: str) -> int:
    names = [item.get("kind", item.get("name")) if isinstance(item, dict) else item for item in items]
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(items):
        return int(name)
    known = nearest(name, [known for known in names if isinstance(known, str) and known])
    raise WinnowError(f"--set {assignment}: {name!r} is not in that list ({known})")

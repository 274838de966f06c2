"""What is wrong with a value that does not fit its model, in the words of a recipe?

A problem has the key as the file spells it (`sources.0.rows`), what is expected there, what was given, and what to
write instead.
"""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.errors import near, nearest

Key = tuple[str | int, ...]
"""The parts of a key, with indices of lists: `("sources", 0, "rows")`."""

Model = TypeVar("Model", bound=BaseModel)


class Problem(NamedTuple):
    """One mistake: the key of the value, and a sentence that names the key and says what to do."""

    key: Key
    message: str


def dotted(key: Key) -> str:
    """The key as one writes it after `--set`: `sources.0.rows`."""
    return ".".join(map(str, key))


def validate(model: type[Model], values: Any) -> tuple[Model | None, list[Problem]]:
    """The model's value, or every problem of `values`."""
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, explain(error, model, values)


def explain(error: ValidationError, model: type[BaseModel], values: Any) -> list[Problem]:
    """Every problem that pydantic found, one for each key, in the order of the model's fields."""
    by_key: dict[Key, list[Any]] = {}
    for problem in error.errors():
        by_key.setdefault(_key_in(problem, model, values), []).append(problem)
    # An alternative that is not meant (`false` in place of a mapping) fails as well. The meant one fails deepest.
    meant = [key for key in by_key if not any(len(key) < len(other) and other[: len(key)] == key for other in by_key)]
    return [Problem(key, _sentence(key, by_key[key], model, values)) for key in meant]


def _key_in(problem: Any, model: type[BaseModel], values: Any) -> Key:
    """The problem's key in the values. Pydantic's location also has the names of alternatives of a union."""
    key: list[str | int] = []
    at = values
    for part in problem["loc"]:
        if isinstance(part, int) and isinstance(at, Mapping):
            continue  # one value in place of a list of them
        if isinstance(part, int):
            key.append(part)
            at = at[part] if isinstance(at, list | tuple) and part < len(at) else None
        elif isinstance(at, Mapping) and part in at and at.get("kind") != part:
            key.append(part)
            at = at[part]
    last = problem["loc"][-1] if problem["loc"] else None
    # A key that is missing, or that was given by another name.
    if problem["type"] == "missing" or (
        at is not problem["input"] and last in _fields(_sections_at(model, tuple(key), values))
    ):
        key.append(str(last))
    return tuple(key)


def _fields(models: Sequence[type[BaseModel]]) -> set[str]:
    return {name for model in models for name in model.model_fields}


def _sentence(key: Key, problems: Sequence[Any], model: type[BaseModel], values: Any) -> str:
    first, name = problems[0], dotted(key)
    given = first["input"]
    match first["type"]:
        case "extra_forbidden":
            return f"unknown key {name!r}; {_known_key(key, model, values)}"
        case "invalid_key":
            keys = [known for section in _sections_at(model, key[:-1], values) for known in section.model_fields]
            return f"unknown key {json.dumps(given, default=str)}; {nearest(str(given), keys)}"
        case "missing":
            return f"{name}: missing; add `{key[-1]}: ...`"
        case "value_error":
            return f"{name}: {first['ctx']['error']}" if name else str(first["ctx"]["error"])
        case "union_tag_not_found":
            return f"{name}: {_without_kind(given, str(key[0]), model)}"
        case "union_tag_invalid":
            tags = re.findall(r"'([^']*)'", first["ctx"]["expected_tags"])
            what = _ITEMS.get(str(key[0]), "kind")
            return f"{name}: unknown {what} {first['ctx']['tag']!r}; {nearest(str(first['ctx']['tag']), tags)}"
    inner = _sections_at(model, key, values)
    expected = list(dict.fromkeys(map(_expected, problems)))
    hint = next((hint for problem in problems if (hint := _hint(problem, given, inner, problems))), "")
    return f"{name or 'the file'}: expected {' or '.join(expected)}, got {shown(given)}{hint and '; ' + hint}"


_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "dataclass": "a mapping",
}
"""The first word of a type of pydantic's errors -> what is expected."""

_PATTERNS = {
    r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$": "a name of letters, digits, `_`, `.` and `-`, not with `.` or `-` in front",
    r"^[a-z][a-z0-9_]*$": "a name of small letters, digits and `_`, which begins with a letter",
}


def _expected(problem: Any) -> str:
    context = problem.get("ctx", {})
    match problem["type"]:
        case "literal_error":
            return re.sub(r"'([^']*)'", r"\1", context["expected"]).replace("False", "false")
        case "greater_than":
            return f"a number above {context['gt']:g}"
        case "greater_than_equal":
            return f"a number of at least {context['ge']:g}"
        case "less_than":
            return f"a number below {context['lt']:g}"
        case "less_than_equal":
            return f"a number of at most {context['le']:g}"
        case "string_pattern_mismatch":
            return _PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}")
        case "string_too_long":
            return f"at most {context['max_length']} characters"
        case "too_short":
            return f"at least {context['min_length']} item{'s' * (context['min_length'] != 1)}"
        case "too_long":
            return f"at most {context['max_length']} items"
    return _KINDS.get(problem["type"].partition("_")[0], "another value")


_NEGATIVE = ("no", "off", "none", "never")
_POSITIVE = ("yes", "on")


def _example(inner: Sequence[type[BaseModel]], given: Any) -> str:
    """A value that stands for a section alone, written as the section: `t.json` -> `{path: t.json}`."""
    key = getattr(inner[0], "MAIN_KEY", None) if len(inner) == 1 else None
    if not isinstance(given, str) or key is None:
        return str(given)
    needed = "".join(f"{name}: ..., " for name, field in inner[0].model_fields.items() if field.is_required())
    return f"{{{'' if key in needed else needed}{key}: {given}}}"


def _defaults(inner: Sequence[type[BaseModel]]) -> str:
    needed = [name for section in inner for name, field in section.model_fields.items() if field.is_required()]
    return f"{{{', '.join(f'{name}: ...' for name in needed)}}}" if needed else "{} for the defaults"


def _hint(problem: Any, given: Any, inner: Sequence[type[BaseModel]], problems: Sequence[Any]) -> str:
    """What to write instead, where it can be told from the value. inner: the sections that may stand there. problems:
    all of the same key."""
    kind = problem["type"].partition("_")[0]
    if given is None:
        return "give it a value, or leave it out"
    if kind == "string" and isinstance(given, int | float):
        return f'write "{json.dumps(given)}"'
    if kind == "string" and isinstance(given, list) and given and all(isinstance(item, str) for item in given):
        return f"write {','.join(given)}" if problem["loc"][-1] == "condition" or len(given) == 1 else ""
    if kind in ("tuple", "list") and isinstance(given, str | int | float):
        return f"write [{_example(inner, given)}]"
    if kind in ("tuple", "list") and isinstance(given, Mapping):
        return "begin each item of a list with `- `"
    if kind in ("dict", "model", "mapping") and isinstance(given, list):
        return "write `key: value`, without `- `"
    if kind in ("dict", "model", "mapping") and isinstance(given, bool):
        return f"write {_defaults(inner)}" if given else ""
    if kind == "model" and isinstance(given, str) and given.lower() in _NEGATIVE and len(problems) > 1:
        return "write false"
    if kind == "model" and len(inner) == 1:
        example = _example(inner, given)
        return f"its keys: {', '.join(inner[0].model_fields)}" if example == str(given) else f"write {example}"
    if problem["type"] == "literal_error" and isinstance(given, str):
        choice = near(given, re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
        return f"did you mean {choice!r}?" if choice else ""
    if kind in ("int", "float") and isinstance(given, str) and (number := _number(given)) is not None:
        return f"write {number}" if kind == "float" or isinstance(number, int) else ""
    if kind == "bool" and isinstance(given, str) and given.lower() in _NEGATIVE + _POSITIVE:
        return f"write {str(given.lower() in _POSITIVE).lower()}"
    if problem["type"] in ("less_than", "less_than_equal") and isinstance(given, int | float) and 2 <= given <= 100:
        return f"a share of 1: write {given / 100:g}" if problem["ctx"].get("lt", problem["ctx"].get("le")) <= 1 else ""
    return ""


_UNITS = {"": 1.0, "%": 0.01, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "kb": 1e3, "mb": 1e6, "gb": 1e9}


def _number(text: str) -> float | int | None:
    """The number that a text with a unit or with separators stands for: `80%`, `10k`, `4,000`, `1e5`."""
    match = re.fullmatch(r"\s*(\d[\d,_' ]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*(%|[a-z]{0,2})\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        return None
    number = round(float(re.sub(r"[,_' ]", "", match[1])) * _UNITS[match[2]], 9)
    return int(number) if math.isfinite(number) and number == int(number) else number


def shown(value: Any) -> str:
    """A value as a message quotes it: as JSON, cut to 60 characters."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_key(key: Key, model: type[BaseModel], values: Any) -> str:
    """The hint about an unknown key: the nearest key of its section, the section that has such a key, or all keys."""
    name = str(key[-1])
    here = _sections_at(model, key[:-1], values)
    own = [known for section in here for known in known_keys(section)]
    meant = next((other[name] for section in here if name in (other := getattr(section, "OTHER_NAMES", {}))), None)
    if meant is not None:
        return f"write `{meant}`"
    if near(name, own) is None:
        places = [place for place, keys in _all_sections(model) if name in keys]
        if places:
            return f"{name!r} is a key of {' and of '.join(f'`{place}`' for place in places[:3])}"
    return nearest(name, own)


def known_keys(section: type[BaseModel]) -> list[str]:
    """The keys that a section may have, former ones included."""
    return [*section.model_fields, *getattr(section, "RENAMED_KEYS", {})]


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in a type annotation, such as `NearDuplicates | Literal[False]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in typing.get_args(annotation) for section in sections(argument)]


def _sections_at(model: type[BaseModel], key: Key, values: Any) -> list[type[BaseModel]]:
    """The sections that may stand at a key: several stages, of which the value's `kind` chooses one."""
    found: list[type[BaseModel]] = [model]
    at = values
    for part in key:
        at = at.get(part) if isinstance(at, Mapping) else at[part]
        if isinstance(part, str):
            fields = [section.model_fields[part] for section in found if part in section.model_fields]
            found = [section for field in fields for section in sections(field.annotation)]
        if isinstance(at, Mapping) and "kind" in at:
            found = [
                one for one in found if "kind" in one.model_fields and one.model_fields["kind"].default == at["kind"]
            ]
    return found


def _all_sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """The place and the keys of every section below a model, but for those that a `kind` chooses."""
    for name, field in model.model_fields.items():
        inner = sections(field.annotation)
        if len(inner) == 1:
            yield f"{prefix}{name}", list(inner[0].model_fields)
            yield from _all_sections(inner[0], f"{prefix}{name}.")


_ITEMS = {"stages": "stage", "scores": "score"}
"""Section of a recipe whose items have a `kind` -> what an item is."""


def _without_kind(given: Any, section: str, model: type[BaseModel]) -> str:
    """What to write for an item without `kind`."""
    items = sections(model.model_fields[section].annotation) if section in model.model_fields else []
    kinds, what = [str(item.model_fields["kind"].default) for item in items], _ITEMS.get(section, "value")
    if isinstance(given, Mapping) and len(given) == 1:
        ((name, inner),) = given.items()
        if name in kinds:
            keys = (
                "".join(f", {key}: {json.dumps(value)}" for key, value in inner.items())
                if isinstance(inner, Mapping)
                else ""
            )
            return f"a {what} has its name as `kind`: write `- {{kind: {name}{keys}}}`"
    return f"a {what} is a name or a mapping with a `kind`, got {shown(given)}; {nearest('', kinds)}"

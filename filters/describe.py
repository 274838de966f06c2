"""What does a stage do, and what can be set? Read from its class: fields, annotations and docstrings.

The first paragraph of the class's docstring says what the stage does. `name: meaning.` in the others describes a
parameter. The docstrings of `judge`, `rewrite` and `reject` begin with `Reasons:` and name the reasons in backticks.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from filters.catalogue import CORPUS_STAGES, STAGES
from filters.cut import ScoreCut
from filters.registry import Registry
from filters.scores.catalogue import SCORES
from filters.stage import Filter, Stage

UNITS = {
    "_ratio": "share, 0 to 1",
    "_confidence": "probability, 0 to 1",
    "_chars": "characters",
    "_bytes": "bytes",
    "_words": "words",
    "_lines": "lines",
    "_seconds": "seconds",
}
"""End of a parameter's name -> its unit."""


class Parameter(BaseModel):
    """A parameter of a stage. type: in words. default: as a JSON value. unit, meaning: empty where there is none."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    default: Any
    unit: str
    meaning: str


Role = Literal["filter", "transform", "cut", "score"]


class StageEntry(BaseModel):
    """A stage: what it does in one line, its parameters, and the reasons for which it drops rows.

    package: of a plugin, name and version; `winnow` for Winnow's own.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    role: Role
    summary: str
    parameters: tuple[Parameter, ...]
    reasons: tuple[str, ...]
    package: str


def entries() -> list[StageEntry]:
    """Every stage and every score that a recipe can use."""
    found = [_describe(kind, stage, _role(stage), STAGES) for kind, stage in STAGES.items()]
    found += [_describe(kind, stage, _role(stage), None) for kind, stage in CORPUS_STAGES.items()]
    return found + [_describe(kind, score, "score", SCORES) for kind, score in SCORES.items()]


def _role(stage: type[Stage]) -> Role:
    return "filter" if issubclass(stage, Filter) else "cut" if issubclass(stage, ScoreCut) else "transform"


def _describe(kind: str, stage: type[BaseModel], role: Role, registry: Registry[Any] | None) -> StageEntry:
    first, _, rest = inspect.cleandoc(stage.__doc__ or "").partition("\n\n")
    fields = {name: field for name, field in stage.model_fields.items() if name != "kind"}
    meanings = _meanings(" ".join(rest.split()), tuple(fields))
    package = None if registry is None else registry.package(kind)
    return StageEntry(
        kind=kind,
        role=role,
        summary=" ".join(first.split()),
        parameters=tuple(
            Parameter(
                name=name,
                type=_type_name(field.annotation),
                default=None
                if field.is_required()
                else TypeAdapter(Any).dump_python(field.get_default(call_default_factory=True), mode="json"),
                unit=next((unit for end, unit in UNITS.items() if name.endswith(end)), ""),
                meaning=meanings.get(name, ""),
            )
            for name, field in fields.items()
        ),
        reasons=tuple(dict.fromkeys(_reasons(stage))),
        package="winnow" if package is None else str(package),
    )


def _meanings(text: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """Parameter -> its description in `a: meaning of a. b, c: meaning of both.`"""
    if not names:
        return {}
    name = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    group = rf"(?<![\w`])((?:(?:{name}), )*(?:{name})): "
    pieces = re.split(group, text)[1:]
    return {
        each: meaning.strip().rstrip(".")
        for listed, meaning in zip(pieces[::2], pieces[1::2], strict=True)
        for each in listed.split(", ")
    }


def _reasons(stage: type[BaseModel]) -> Iterator[str]:
    for method in ("judge", "rewrite", "reject"):
        text = " ".join((inspect.getdoc(stage.__dict__.get(method)) or "").split())
        listed = re.match(r"Reasons?: (.*?)(?:\. |\.$|$)", re.sub(r" ?\([^()]*\)", "", text))
        if listed is None:
            continue
        if constant := re.search(r"the names in ([A-Z_]+)", listed[1]):
            yield from getattr(sys.modules[stage.__module__], constant[1])
        else:
            yield from re.findall(r"`(\w+)`", listed[1])


def _type_name(annotation: Any) -> str:
    """A type in words: `whole number`, `list of text`, `"a" or "b"`, `text -> text`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_type_name, parts))
    if origin in (tuple, list):
        inner = _type_name(parts[0])
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    if origin is Mapping:
        return f"{_type_name(parts[0])} -> {_type_name(parts[1])}"
    if origin is typing.Annotated:
        return _type_name(parts[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))

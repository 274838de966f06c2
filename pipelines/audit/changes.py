"""Where do two recipes, or the parameters of two steps, differ? Paths of keys, and why a step was made again.

Entries of a list are named by their `name` or `kind`, as `--set` names them: a stage that is inserted does not change
the path of those after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pipelines.ledger.manifest import Manifest

CODE_KEYS = ("version", "reading")
"""Parameters with the version of code that made a step: of an adapter, a stage, a way to read text."""

INPUT_KEYS = ("files", "given")
"""Parameters with the identity of files that a step reads."""

DERIVED_KEYS = ("items", "unread")
"""Parameters that follow from the files that are read."""

ORDER = ("only", "recipe", "input", "code", "parameter", "upstream")
"""Of the kinds of causes: what a user changed comes first."""


class Change(NamedTuple):
    """A key with another value. left, right: None where there is no such key."""

    path: str
    left: Any
    right: Any


class Cause(BaseModel):
    """Why a step is another one.

    kind: `recipe` (a key of the recipe), `parameter` (a parameter of the step that follows from the recipe), `code` (a
    module or a library that the step's work runs), `input` (a file), `upstream` (a step that it reads), `only` (the
    other run has no such step). what: the key, the parameter, the module or library, the file or the step. left, right:
    the values; digests for a module and a file, versions for a library, None where there is none.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["recipe", "parameter", "code", "input", "upstream", "only"]
    what: str
    left: Any = None
    right: Any = None


def changes(left: Any, right: Any, path: str = "") -> Iterator[Change]:
    """Where two JSON values differ, in order."""
    if isinstance(left, list) and isinstance(right, list):
        a, b = _named(left), _named(right)
        if a is not None and b is not None:
            yield from changes(a, b, path)
            order = [[name for name in a if name in b], [name for name in b if name in a]]
            if order[0] != order[1]:
                yield Change(path, *order)
            return
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys([*left, *right]):
            yield from changes(left.get(key), right.get(key), f"{path}.{key}" if path else key)
    elif left != right:
        yield Change(path, left, right)


def _named(values: list[Any]) -> dict[str, Any] | None:
    """The entries of a list by their names; None if they have none. The second entry of a name is `<name>.2`."""
    named: dict[str, Any] = {}
    for value in values:
        if isinstance(value, Mapping):
            name = value.get("name") or value.get("kind") or value.get("prefix")
        else:  # a file of a step's parameters: its name, more that tells it from others, the digest of its bytes
            name = "".join(map(str, value[:-1])) if isinstance(value, list) and len(value) > 1 else None
        if not isinstance(name, str):
            return None
        copies = sum(key == name or key.rpartition(".")[0] == name for key in named)
        named[f"{name}.{copies + 1}" if name in named else name] = value[-1] if isinstance(value, list) else value
    return named


def causes(
    left: Manifest | None, right: Manifest | None, steps: Mapping[str, str], settings: Sequence[Change]
) -> list[Cause]:
    """Why the step of one run is not that of the other; empty if it is.

    steps: key of each step of both runs -> its name. settings: what changed in the recipe.
    """
    if left is None or right is None:
        side = "right" if left is None else "left"
        return [Cause(kind="only", what=side)]
    if left.key == right.key:
        return []
    found = []
    found += [Cause(kind="code", what=one.path, left=one.left, right=one.right) for one in _code_changes(left, right)]
    different = list(changes(left.parameters, right.parameters))
    found += [_cause(change, settings) for change in different if change.path.rpartition(".")[2] not in DERIVED_KEYS]
    names = [{steps.get(key, key): key for key in step.parents} for step in (left, right)]
    for name in dict.fromkeys([*names[0], *names[1]]):
        before, after = (parents.get(name) for parents in names)
        if before != after:
            found.append(Cause(kind="upstream", what=name, left=before, right=after))
    return sorted(found, key=lambda cause: ORDER.index(cause.kind))


def _code_changes(left: Manifest, right: Manifest) -> Iterator[Change]:
    for name in sorted(left.code.keys() | right.code.keys()):
        if left.code.get(name) != right.code.get(name):
            yield Change(name, left.code.get(name), right.code.get(name))


def _cause(change: Change, settings: Sequence[Change]) -> Cause:
    keys = change.path.split(".")
    at = next((number for number, key in enumerate(keys) if key in INPUT_KEYS), None)
    if at is not None:
        # `sources.gsm8k_train.files.<file>`: the source and the file.
        what = "/".join([*keys[1:at], ".".join(keys[at + 1 :])]).strip("/") or keys[at]
        return Cause(kind="input", what=what, left=change.left, right=change.right)
    if keys[-1] in CODE_KEYS:
        what = ".".join(keys[:-1]) or keys[-1]
        return Cause(kind="code", what=what, left=change.left, right=change.right)
    # A step has a section of the recipe, or some of its keys, as its parameters.
    of_recipe = [one.path for one in settings if f".{one.path}".endswith(f".{change.path}")]
    of_recipe += [one.path for one in settings if one[1:] == change[1:] and one.path.split(".")[-1] == keys[-1]]
    kind: Literal["recipe", "parameter"] = "recipe" if of_recipe else "parameter"
    return Cause(kind=kind, what=(of_recipe or [change.path])[0], left=change.left, right=change.right)

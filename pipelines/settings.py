"""Settings from YAML and from `--set key=value`: the one loader and the one parser for recipes and training."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import yaml

from pipelines.errors import WinnowError, nearest


class Loader(yaml.SafeLoader):
    """YAML with the booleans of version 1.2: `on` and `no` are strings (a key and the code for Norwegian)."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML document.

    Raises: yaml.YAMLError, UnicodeDecodeError: if the text is not YAML.
    """
    return yaml.load(text, Loader)  # a SafeLoader


def override(values: dict[str, Any], assignments: Sequence[str], partial: bool = False) -> dict[str, Any]:
    """A copy of nested settings with assignments `path.to.key=value` applied in order. Values are YAML.

    An item of a list is named by its `kind`, its `name` or its index: `sources.0.rows=10`. partial: `values` leaves out
    keys that have a default, as a recipe does. A key that is missing is then added, and a value may become a section;
    whoever validates the result reports unknown keys. Otherwise every key must be present.

    Raises: WinnowError: naming the assignment and the nearest known key.
    """
    result = copy.deepcopy(values)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise WinnowError(f"--set {assignment}: write key=value, with dots between the parts of a key")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            raise WinnowError(f"--set {assignment}: the value is not YAML: {' '.join(str(error).split())}") from error
        *parents, last = path.split(".")
        section: Any = result
        for name in parents:
            section = _child(section, name, assignment, partial)
        if isinstance(section, list):
            section[_index(section, last, assignment)] = value
            continue
        if not partial:
            _check_known(section, last, assignment)
            if isinstance(section[last], dict):
                raise WinnowError(
                    f"--set {assignment}: {last!r} is a section; set one of its keys ({', '.join(section[last])})"
                )
        section[last] = value
    return result


def _child(section: Any, name: str, assignment: str, partial: bool) -> Any:
    """The section or list inside a section or list."""
    if isinstance(section, list):
        child = section[_index(section, name, assignment)]
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
    names = [item.get("kind", item.get("name")) if isinstance(item, dict) else None for item in items]
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(items):
        return int(name)
    known = nearest(name, [known for known in names if known])
    raise WinnowError(f"--set {assignment}: {name!r} is not in that list ({known})")

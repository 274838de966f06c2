"""What is a step? Its type says what it leaves behind and needs; its key says what its output depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipelines.credentials import without_secrets

DROPPED_ROWS = "dropped"
"""The product of every step that conserves rows: the records that it dropped, with stage, reason and evidence."""


class Resources(NamedTuple):
    """What one task of a step takes from the machine it runs on.

    cpus, gpus: how many. memory: bytes, None where the engine need not plan with it.
    """

    cpus: float = 1
    gpus: float = 0
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepType:
    """Everything about a kind of step that does not depend on a recipe.

    name: the step's name in storage, reports and the Prefect UI. products: name of each product -> what its files hold.
    kept: the product that holds the rows that the step keeps; with it, rows in = rows of `kept` + rows of `dropped`,
    for every work item. None for a step that makes no rows from rows (an index, a tokenizer, packs). resources: of one
    task.
    """

    name: str
    products: Mapping[str, str]
    kept: str | None = None
    resources: Resources = field(default=Resources())

    def __post_init__(self) -> None:
        assert self.kept is None or self.kept in self.products, f"{self.name}: {self.kept} is none of its products"

    @property
    def main_product(self) -> str:
        """The product that the step is made for: the rows kept, else the first product."""
        return self.kept or next(iter(self.products))

    def step(self, parameters: Mapping[str, Any], parents: Sequence[str] = ()) -> Step:
        """The step of this type with these parameters and parents (keys of the steps that it reads)."""
        return Step(self, dict(parameters), tuple(parents))


class Step(NamedTuple):
    """A step before it is made. Its `key` is the hash of everything that its output depends on.

    parameters: JSON-able. parents: keys of the steps that it reads. code: what its work runs (`code.code_of`), which
    `Run.do` adds: None before, when the step has no key yet.
    """

    type: StepType
    parameters: dict[str, Any]
    parents: tuple[str, ...] = ()
    code: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The name of its type."""
        return self.type.name

    @property
    def key(self) -> str:
        """16 hex digits: the step's address in storage."""
        assert self.code is not None, f"{self.name}: `Run.do` gives a step its key"
        return key_of([self.name, self.parameters, self.parents, self.code])

    @property
    def folder(self) -> str:
        """Its folder below `ROOT/steps`."""
        return f"{self.name}-{self.key}"


def key_of(depends_on: Sequence[Any]) -> str:
    """The key of a step: 16 hex digits, from its name, parameters, parents and code, in this order."""
    return hashlib.blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=8).hexdigest()


def parameters(**values: Any) -> dict[str, Any]:
    """A step's parameters from pydantic models and plain values, as JSON-able data without secrets."""
    given = {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in values.items()
    }
    return dict(without_secrets(given))

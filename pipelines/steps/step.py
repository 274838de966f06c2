"""What is a step of a recipe? One value says when a recipe has it, how it is made, and what it costs.

`pipelines.curate.STEPS` lists these values in order. `pipelines.curate` makes them, `pipelines.plan` prices them, and
the flows count them; none of these names a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from filters.contamination.paraphrase import SentenceModel
from filters.rewrite import Rewrite
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.step import StepType
from pipelines.recipe import Recipe
from pipelines.steps.products import RECORDS

DROPPED_RECORDS = "the records dropped, as they were judged, with stage, reason and evidence"
"""What every record step's product `dropped` holds."""


class Rewriter(Protocol):
    """What answers for one stage. The caller of a build passes the function that makes it, since no model is loaded
    here.

    parameters: what the answers depend on beside the stage, as JSON values.
    """

    @property
    def parameters(self) -> dict[str, Any]: ...

    def answers(
        self, tables: Iterable[pa.Table], root: str, owner: str, on_done: Callable[[int], None]
    ) -> Iterator[pa.Table]:
        """A table ANSWER [rows] for each table ASKED [rows] (`pipelines/steps/rewrite.py`).

        root: where completions are recorded. owner: for which step. on_done: called with the records answered so far.

        Raises: CheckFailed: if the budget is spent. WinnowError: if the endpoint refuses or cannot be reached.
        """
        ...


MakeRewriter = Callable[[Rewrite], Rewriter]


@dataclass
class Build:
    """A recipe that is being made: where, and what its steps have left so far.

    last: the name of the last step that keeps text records. model: sentence vectors, for `contamination: {semantic:
    true}`. rewriter: makes what answers for a stage `rewrite`. made: step name -> manifest, in order.
    """

    run: Run
    recipe: Recipe
    last: str
    model: SentenceModel | None = None
    rewriter: MakeRewriter | None = None
    made: dict[str, Manifest] = field(default_factory=dict)

    @property
    def records(self) -> Manifest:
        """The last step so far that holds text records."""
        return next(manifest for manifest in reversed(self.made.values()) if manifest.kept == RECORDS)

    def as_text(self, step: str) -> bool:
        """Whether the files of the step of that name hold their text themselves: those of the corpus, if it is
        stored."""
        return step == self.last and "corpus" in self.recipe.store


def form(as_text: bool) -> dict[str, str]:
    """The parameter of a step that says whether it writes text or a selection of its parent's rows."""
    return {} if as_text else {"form": "selection"}


class Workload(NamedTuple):
    """What a recipe gives a step to do: bytes of text, rows, what an epoch draws of them, and shards of records."""

    recipe: Recipe
    text_bytes: float
    rows: float
    drawn_rows: float
    drawn_tokens: float
    shards: float


class Rate(NamedTuple):
    """What a step was measured to take (`pipelines/rates.json`).

    core_seconds_before: before it sees any text. core_seconds_per_shard: of a shard, whatever is in it. slowest,
    fastest: MB per core second of the slowest and the fastest of several builds. disk_bytes_per_byte: written per byte
    of text. memory_gb: of a worker.
    """

    core_seconds_before: float
    core_seconds_per_shard: float
    mb_per_core_second: float
    slowest: float
    fastest: float
    memory_gb: float
    disk_bytes_per_byte: float = 0.0


class Estimate(NamedTuple):
    """What a step will take. memory_gb: of its largest task."""

    core_seconds: float
    memory_gb: float
    disk_bytes: float


Rates = Mapping[str, Rate]


def by_text(step: str, workload: Workload, rates: Rates) -> Estimate:
    """The estimate of a step whose cost grows with the text alone."""
    rate = rates[step]
    seconds = rate.core_seconds_before + rate.core_seconds_per_shard * workload.shards
    seconds += workload.text_bytes / 1e6 / rate.mb_per_core_second
    return Estimate(seconds, rate.memory_gb, workload.text_bytes * rate.disk_bytes_per_byte)


@dataclass(frozen=True, kw_only=True)
class RecipeStep(StepType):
    """A step type that recipes have.

    wanted: whether a recipe has this step. make: makes or reuses it. estimate: what it will take, given its name, the
    workload and the measured rates; None (for all recipes, or for this one) if its cost does not grow with the corpus.
    rate: the name of its measured rate, if it is not that of the step.
    """

    wanted: Callable[[Recipe], bool]
    make: Callable[[Build], Manifest]
    estimate: Callable[[str, Workload, Rates], Estimate | None] | None = by_text
    rate: str | None = None

    def of(self, recipe: Recipe) -> tuple[RecipeStep, ...]:
        """This step, if the recipe has it."""
        return (self,) if self.wanted(recipe) else ()


@dataclass(frozen=True)
class StepGroup:
    """Steps of which a recipe has as many as it names. steps: those of a recipe, in order."""

    steps: Callable[[Recipe], Sequence[RecipeStep]]

    def of(self, recipe: Recipe) -> tuple[RecipeStep, ...]:
        """The steps that the recipe has."""
        return tuple(self.steps(recipe))


Steps = Sequence[RecipeStep | StepGroup]
"""What `wanted` chooses the steps of a recipe from."""


def always(recipe: Recipe) -> bool:
    """For a step that every recipe has."""
    return True

"""A new step is one value in a list: it is made, planned, counted, recorded, reported, verified and explained."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Outcome, mark_verdicts
from filters.verdict import Check, first_failure
from pipelines.audit.report import facts, write_report
from pipelines.audit.verify import verify
from pipelines.audit.why import why
from pipelines.curate import STEPS, curate, wanted
from pipelines.ledger import storage
from pipelines.ledger.engine import ONE_CPU, LocalEngine
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target, commit
from pipelines.ledger.step import DROPPED_ROWS, Resources
from pipelines.ledger.storage import TableRef
from pipelines.plan import plan
from pipelines.recipe import Recipe, load
from pipelines.steps.products import RECORDS
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep, always
from tests.steps import record_run

Item = TypeVar("Item")
Result = TypeVar("Result")

RECIPE = """
name: more
sources: [{name: mine, path: rows.jsonl, columns: {instruction: q, response: a}, condition: direct}]
exact_duplicates: false
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 65}
"""


def _drop_odd_lengths(shard: TableRef, target: Target) -> Part:
    records = storage.read_parquet(shard.path)
    length = pc.binary_length(records["response"]).to_numpy()
    odd = length % 2 == 1
    verdicts = first_failure([Check("odd_length", odd, length, 2)])
    dropped = mark_verdicts(records.filter(pa.array(odd)), "even", verdicts.filter(pa.array(odd)))
    part = commit(Outcome(records.filter(pa.array(~odd)), dropped), records, target)
    lengths = storage.write_arrow(target.path("lengths", ".arrow"), pa.table({"bytes": np.sort(length)}))
    return part.with_file("lengths", lengths)


def _make(build: Build) -> Manifest:
    records = build.records
    step = EVEN.step({}, (records.key,))
    return build.run.do(step, lambda context: context.map(_drop_odd_lengths, records.shards), records)


EVEN = RecipeStep(
    name="even-lengths",
    products={RECORDS: "records of even length", DROPPED_ROWS: DROPPED_RECORDS, "lengths": "the lengths, sorted"},
    kept=RECORDS,
    resources=Resources(cpus=2, memory=1 << 20),
    wanted=always,
    make=_make,
)

MORE = (*STEPS[:2], EVEN, *STEPS[2:])


class Recording(LocalEngine):
    """Keeps what was asked for the tasks of each phase."""

    asked: list[Resources]

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        self.asked = [*getattr(self, "asked", []), resources]
        yield from super().map(work, items, resources)


def recipe_of(folder: Path) -> Recipe:
    rows = [{"q": f"What is {n} and {n}?", "a": "ab" * n + "c" * (n % 3)} for n in range(1, 60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return load(str(folder / "recipe.yaml"))


def test_a_step_is_one_value_and_everything_else_follows_from_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    with Recording() as engine:
        run = Run(str(tmp_path / "root"), engine)
        corpus = curate(run, recipe, steps=MORE)
    names = ["ingest", "refine", "even-lengths", "tokenizer", "tokens", "pack"]
    assert [step.name for step in wanted(recipe, MORE)] == names == [result.step.name for result in run.results]
    assert EVEN.resources in engine.asked and ONE_CPU in engine.asked
    assert corpus.records.step == "even-lengths"

    recorded = record_run(run, recipe, corpus, RECIPE)
    assert verify(recorded).rows == corpus.records.rows_kept == 39
    fate = why(recorded, "mine/rows/0")
    assert fate.history[-1].step == "even-lengths" and fate.history[-1].reason == "odd_length"
    page = facts(recorded)
    assert "even-lengths" in [bar["step"] for bar in page["funnel"]]
    assert {"step": "even-lengths", "name": "even/odd_length", "rows": 20} in [
        {key: reason[key] for key in ("step", "name", "rows")} for reason in page["reasons"]
    ]
    assert "even/odd_length" in Path(write_report(recorded)).read_text(encoding="utf-8")


def test_a_plan_names_a_step_that_was_never_measured(tmp_path: Path) -> None:
    core_hours = {step.name: step.core_hours for step in plan(recipe_of(tmp_path), MORE).steps}
    assert core_hours["even-lengths"] is None and core_hours["ingest"] is not None


def test_several_cpus_per_task_leave_room_for_fewer_tasks(tmp_path: Path) -> None:
    with LocalEngine(2) as engine:
        spans = list(engine.map(_span, range(4), Resources(cpus=2)))
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def _span(item: int) -> tuple[float, float]:
    import time

    began = time.monotonic()
    time.sleep(0.05)
    return began, time.monotonic()

"""Rows that duplicate those of an earlier run: the result equals a rebuild of both, and evidence names the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.audit.why import why
from pipelines.curate import curate
from pipelines.errors import RunError
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import ExactDuplicates, NearDuplicates, load
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.duplicates.ranges import TaskSizes
from tests.pipelines.steps.duplicates.corpora import drifting, dropped, kept_ids, split
from tests.steps import record_run, records_of

SETTINGS = NearDuplicates(instruction=0.7, response=0.7)
PREFERRED = {"old": 1, "new": 0}


def of_source(table: pa.Table, source: str) -> pa.Table:
    names = pa.array([f"{source}/{name}" for name in table["id"].to_pylist()])
    return table.set_column(0, table.schema.field(0), names).set_column(
        1, table.schema.field(1), pa.array([source] * len(table))
    )


def both(
    run: Run, records: Manifest, against: tuple[list[Manifest], list[Manifest]], sizes: TaskSizes
) -> list[Manifest]:
    exact = drop_exact_duplicates(run, records, ExactDuplicates(), PREFERRED, against[0], sizes)
    return [exact, drop_near_duplicates(run, exact, SETTINGS, PREFERRED, against[1], sizes)]


@pytest.mark.parametrize("sizes", [TaskSizes(), TaskSizes(keys=1 << 11, members=1 << 10, pairs=1 << 8)])
def test_the_rows_kept_are_those_of_a_rebuild_of_both_corpora(tmp_path: Path, sizes: TaskSizes) -> None:
    # Clusters are smaller than the rows that make a shingle boilerplate, which the earlier run and a rebuild may count
    # differently.
    table = drifting(900, seed=5, fresh_share=0.3)
    table = pa.concat_tables([table, table.take(pa.array(np.arange(0, 900, 31)))])  # exact copies too
    table = table.set_column(0, table.schema.field(0), pa.array([f"r/{row}" for row in range(len(table))]))
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    old, new = of_source(shuffled.slice(0, 500), "old"), of_source(shuffled.slice(500), "new")

    run = Run(str(tmp_path / "apart"), LocalEngine(1))
    earlier = both(run, records_of(run, split(old, 3), which="old"), ([], []), sizes)
    later = both(run, records_of(run, split(new, 2), which="new"), ([earlier[0]], [earlier[1]]), sizes)

    run = Run(str(tmp_path / "together"), LocalEngine(1))
    together = both(run, records_of(run, [*split(new, 2), *split(old, 3)]), ([], []), sizes)

    assert sorted([*kept_ids(earlier[1]), *kept_ids(later[1])]) == kept_ids(together[1])
    for old_step, new_step, rebuilt in zip(earlier, later, together, strict=True):
        evidence = {**dropped(old_step), **dropped(new_step)}
        assert evidence.keys() == dropped(rebuilt).keys()
        kept = {*kept_ids(old_step), *kept_ids(new_step)}
        assert all(value["twin"] in kept for value in evidence.values())
        new_evidence = dropped(new_step).values()
        named = {str(value["twin"]) for value in new_evidence if "against" in value}
        assert len(named) > 10 and named <= set(kept_ids(old_step))
        assert {value["against"] for value in new_evidence if "against" in value} == {old_step.folder}
        named = {str(value["twin"]) for value in new_evidence if "against" not in value}
        assert named <= set(kept_ids(new_step))


RECIPE = """
name: {name}
sources:
  - {{name: sums, adapter: generated_arithmetic, rows: {rows}}}
  - {{name: problems, adapter: generated_word_problems, rows: {rows}}}
tokenizer: {{vocab_size: 600}}
sampling: {{epochs: 1, context: 257}}
"""


def test_a_recipe_names_an_earlier_run_by_its_complete_id(tmp_path: Path) -> None:
    def build(name: str, rows: int, more: str = "") -> RecordedRun:
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, rows=rows) + more, encoding="utf-8")
        recipe, run = load(str(path)), Run(str(tmp_path / "root"), LocalEngine(1))
        return record_run(run, recipe, curate(run, recipe), path.read_text(encoding="utf-8"))

    first = build("first", 300)
    second = build("second", 500, f"against: {first.id}\n")
    old, new = first.step("near-duplicates"), second.step("near-duplicates")
    assert old is not None and new is not None
    # The first 300 rows of each source are the same in both runs.
    assert (new.rows_kept or 0) > 100 and not set(kept_ids(old)) & set(kept_ids(new))
    named = [name for name, value in dropped(new).items() if "against" in value]
    named += [name for name, value in dropped(second.steps[2]).items() if "against" in value]
    for name in named[:10]:
        assert {twin.run for twin in why(second, name).twins} == {first.id}
        assert why(second, name).twins[-1].verdict == "kept"
    assert named
    with pytest.raises(RunError, match=f"against: first.*no such run.*{first.id}"):
        build("third", 500, "against: first\n")

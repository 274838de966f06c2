"""Rows that repeat an earlier run's: what is left is what a rebuild of both together leaves, and the twin is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

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
from tests.pipelines.steps.test_deduplicate import drifting, dropped, ids, split, write
from tests.steps import plain_step, record_run

SETTINGS = NearDuplicates(threshold=0.7)
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
def test_what_is_left_is_what_a_rebuild_of_both_leaves(tmp_path: Path, sizes: TaskSizes) -> None:
    table = drifting(900, seed=5)
    table = pa.concat_tables([table, table.take(pa.array(np.arange(0, 900, 31)))])  # exact copies too
    table = table.set_column(0, table.schema.field(0), pa.array([f"r/{row}" for row in range(len(table))]))
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    old, new = of_source(mixed.slice(0, 500), "old"), of_source(mixed.slice(500), "new")

    run = Run(str(tmp_path / "apart"), LocalEngine(1))
    first = run.do(plain_step("given", {"which": "old"}), lambda context: context.map(write, split(old, 3)))
    earlier = both(run, first, ([], []), sizes)
    second = run.do(plain_step("given", {"which": "new"}), lambda context: context.map(write, split(new, 2)))
    later = both(run, second, ([earlier[0]], [earlier[1]]), sizes)

    run = Run(str(tmp_path / "together"), LocalEngine(1))
    pieces = [*split(new, 2), *split(old, 3)]
    together = both(run, run.do(plain_step("given", {}), lambda context: context.map(write, pieces)), ([], []), sizes)

    assert sorted([*ids(earlier[1]), *ids(later[1])]) == ids(together[1])
    for one, other, whole in zip(earlier, later, together, strict=True):
        gone, gone_together = {**dropped(one), **dropped(other)}, dropped(whole)
        assert gone.keys() == gone_together.keys()
        stay = {*ids(one), *ids(other)}
        assert all(evidence["twin"] in stay for evidence in gone.values())
        named = {str(evidence["twin"]) for evidence in dropped(other).values() if "against" in evidence}
        assert len(named) > 10 and named <= set(ids(one))
        assert {e["against"] for e in dropped(other).values() if "against" in e} == {f"{one.step}-{one.key}"}
        inside = {str(evidence["twin"]) for evidence in dropped(other).values() if "against" not in evidence}
        assert inside <= set(ids(other))


RECIPE = """
name: {name}
sources:
  - {{name: sums, adapter: generated_arithmetic, rows: {rows}}}
  - {{name: problems, adapter: generated_word_problems, rows: {rows}}}
tokenizer: {{vocab_size: 600}}
sampling: {{epochs: 1, context: 257}}
"""


def test_a_recipe_names_an_earlier_run(tmp_path: Path) -> None:
    def build(name: str, rows: int, more: str = "") -> RecordedRun:
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, rows=rows) + more, encoding="utf-8")
        recipe, run = load(str(path)), Run(str(tmp_path / "root"), LocalEngine(1))
        return record_run(run, recipe, curate(run, recipe), path.read_text(encoding="utf-8"))

    first = build("first", 300)
    second = build("second", 500, f"against: {first.id}\n")
    old, new = first.step("near-duplicates"), second.step("near-duplicates")
    assert old is not None and new is not None
    assert new.rows_kept > 100 and not set(ids(old)) & set(ids(new))  # the first 300 rows of each source came again
    with pytest.raises(RunError, match=f"against: first.*no such run.*{first.id}"):
        build("third", 500, "against: first\n")

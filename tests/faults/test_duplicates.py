"""Faults during duplicate removal do not change its result.

Each fault runs both steps over the same rows, divided among so many small tasks that every phase has several, and must
leave the survivors and the evidence of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import CheckFailed
from pipelines.ledger.engine import ONE_CPU, Engine, LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.step import Resources
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.duplicates.ranges import TaskSizes
from tests.faults.killed_workers import KilledOnRay
from tests.pipelines.steps.duplicates.corpora import drifting, dropped, kept_ids, records_table, split
from tests.steps import records_of

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL = TaskSizes(keys=1 << 12, members=1 << 11, pairs=1 << 9)
SETTINGS = NearDuplicates(instruction=0.6, response=0.6)
Outcome = tuple[list[str], dict[str, Any], dict[str, Any]]
"""The ids of the rows kept, and the evidence of the rows dropped by the exact and by the near step."""


class TaskDied(Exception):
    """The process of a task died."""


class DyingEngine:
    """An engine where each task dies at its first attempt, after its files were written and before its receipt was."""

    workers = 1

    def __init__(self) -> None:
        self.died: set[str] = set()

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        for item in items:
            target = item[1]  # type: ignore[index]
            if (name := target.path()) not in self.died:
                self.died.add(name)
                work.args[0](*item)  # type: ignore[attr-defined]  # the work alone, without its receipt
                raise TaskDied
            yield work(item)


class RepeatingEngine:
    """An engine that runs each task twice, like a scheduler that believes a slow worker to be dead."""

    workers = 1

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        for item in items:
            work(item)
            yield work(item)


def table() -> pa.Table:
    near = drifting(500, seed=11, words=60, fresh_share=0.3)
    copies = near.take(pa.array(np.arange(0, 500, 23)))
    names = [f"z/f/{row}" for row in range(len(copies))]
    return pa.concat_tables([near, copies.set_column(0, near.schema.field(0), pa.array(names))])


def both_steps(
    root: Path, tables: list[pa.Table], engine: Engine, sizes: TaskSizes = SMALL
) -> tuple[Manifest, Manifest]:
    run = Run(str(root), engine)
    exact = drop_exact_duplicates(run, records_of(run, tables), ExactDuplicates(), {}, sizes=sizes)
    return exact, drop_near_duplicates(run, exact, SETTINGS, {}, sizes=sizes)


def outcome(root: Path, tables: list[pa.Table], engine: Engine, sizes: TaskSizes = SMALL) -> Outcome:
    exact, near = both_steps(root, tables, engine, sizes)
    return kept_ids(near), dropped(exact), dropped(near)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    kept, exact, near = outcome(tmp_path_factory.mktemp("undisturbed"), split(table(), 4), LocalEngine(1))
    assert len(kept) > 100 and len(exact) >= 22 and len(near) > 100
    return kept, exact, near


def killed_before_commit(root: Path) -> Outcome:
    engine = DyingEngine()
    for _ in range(100):
        try:
            both_steps(root, split(table(), 4), engine)
            break
        except TaskDied:
            pass
    assert len(engine.died) > 30
    return outcome(root, split(table(), 4), engine)


def run_twice(root: Path) -> Outcome:
    return outcome(root, split(table(), 4), RepeatingEngine())


def key_files_merged_before(root: Path) -> Outcome:
    engine = DyingEngine()
    sizes = SMALL._replace(opens=1)
    for _ in range(1000):
        with contextlib.suppress(TaskDied):
            both_steps(root, split(table(), 30), engine, sizes)
            break
    assert sum("/merged/" in name for name in engine.died) == 2 * 5  # groups of six shards, in both steps
    return outcome(root, split(table(), 30), engine, sizes)


def shards_in_another_order(root: Path) -> Outcome:
    return outcome(root, split(table(), 4)[::-1], LocalEngine(1))


def rows_in_another_order(root: Path) -> Outcome:
    rows = table()
    return outcome(root, split(rows.take(pa.array(np.random.default_rng(1).permutation(len(rows)))), 4), LocalEngine(1))


def another_number_of_shards(root: Path) -> Outcome:
    return outcome(root, split(table(), 11), LocalEngine(1))


def another_number_of_workers(root: Path) -> Outcome:
    with LocalEngine(2) as engine:
        return outcome(root, split(table(), 4), engine)


FAULTS = [
    killed_before_commit,
    run_twice,
    key_files_merged_before,
    shards_in_another_order,
    rows_in_another_order,
    another_number_of_shards,
    another_number_of_workers,
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
@pytest.mark.fault("a kill, a lost or a repeated task in the duplicate steps", "same survivors, same evidence")
def test_a_fault_changes_neither_the_survivors_nor_the_evidence(
    tmp_path: Path, undisturbed: Outcome, fault: Callable[[Path], Outcome]
) -> None:
    assert fault(tmp_path) == undisturbed


def test_other_task_sizes_leave_the_same_rows(tmp_path: Path, undisturbed: Outcome) -> None:
    """Evidence may name another of several kept rows, since not all pairs are compared."""
    kept, exact, near = outcome(tmp_path, split(table(), 4), LocalEngine(1), TaskSizes())
    assert (kept, exact, near.keys()) == (undisturbed[0], undisturbed[1], undisturbed[2].keys())


@pytest.mark.fault("kill -9 of Ray workers during the duplicate steps", "same survivors, same evidence")
def test_killed_ray_workers_change_neither_the_survivors_nor_the_evidence(tmp_path: Path, undisturbed: Outcome) -> None:
    phases = frozenset(("digests", "buckets", "compare-0", "decide-0", "shards"))
    with KilledOnRay(2, tmp_path, phases) as engine:
        result = outcome(tmp_path / "root", split(table(), 4), engine)
        assert len(engine.killed()) > len(phases)  # both steps have `shards`
    assert result == undisturbed


@pytest.mark.fault("an input file is renamed", "the same texts stay")
def test_renaming_an_input_file_leaves_the_same_texts(tmp_path: Path) -> None:
    """Ids begin with the file name, so all rows of a renamed file keep their order among themselves."""
    rows = table()
    renamed = [str(name).replace("s/f/", "s/g/").replace("z/f/", "z/g/") for name in rows["id"].to_pylist()]
    other = records_table(renamed, *(rows[name].to_pylist() for name in ("instruction", "response")))
    _, before = both_steps(tmp_path / "before", split(rows, 4), LocalEngine(1))
    _, after = both_steps(tmp_path / "after", split(other, 4), LocalEngine(1))
    assert [name.replace("/f/", "/g/") for name in kept_ids(before)] == kept_ids(after)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_short, altered, Path.unlink], ids=["cut short", "altered", "gone"])
@pytest.mark.parametrize("phase", ["signatures/keys", "signatures/rows", "buckets/buckets"])
@pytest.mark.fault("a scratch file is damaged between two phases", "an error names it and the mend")
def test_a_damaged_file_between_two_phases_is_named_with_its_repair(
    tmp_path: Path, undisturbed: Outcome, phase: str, damage: Callable[[Path], None]
) -> None:
    folder, kind = phase.split("/")

    class DamagingEngine:
        workers = 1
        damaged: Path | None = None

        def map(
            self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
        ) -> Iterator[Result]:
            yield from [work(item) for item in items]
            paths = sorted(tmp_path.rglob(f"work/{folder}/{kind}/part-00001.arrow"))
            if paths and self.damaged is None and "near" in str(paths[0]):
                self.damaged = paths[0]
                damage(self.damaged)

    engine = DamagingEngine()
    with pytest.raises(CheckFailed) as raised:
        both_steps(tmp_path, split(table(), 4), engine)
    assert engine.damaged is not None and str(engine.damaged) in str(raised.value)
    work, message = engine.damaged.parents[2], str(raised.value)
    assert f"remove {work} and run the same command" in message or f"remove the folder {work.parent.name}" in message
    shutil.rmtree(work)
    assert outcome(tmp_path, split(table(), 4), LocalEngine(1)) == undisturbed

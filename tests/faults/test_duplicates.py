"""What may go wrong while duplicates are removed, and what it may change: nothing.

A table: each fault runs both steps over the same rows, divided among many small tasks so that every phase has several,
and leaves the survivors and the evidence of an undisturbed run.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest

from flows.ray.engine import RayEngine
from pipelines.errors import CheckFailed
from pipelines.ledger.engine import ONE_CPU, Engine, LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.step import Resources
from pipelines.recipe import ExactDuplicates, NearDuplicates
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.duplicates.ranges import TaskSizes
from tests.pipelines.steps.test_deduplicate import drifting, dropped, ids, records, split, write
from tests.steps import plain_step

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL = TaskSizes(keys=1 << 12, members=1 << 11, pairs=1 << 9)
SETTINGS = NearDuplicates(threshold=0.6)
Fate = tuple[list[str], dict[str, Any], dict[str, Any]]


class Died(Exception):
    """A task's process is gone."""


class Dying:
    """An engine whose task dies after its computation and before anyone hears of it: its files lie there, its receipt
    does not. So it goes on, task by task, until all have died once."""

    workers = 1

    def __init__(self) -> None:
        self.dead: set[str] = set()

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        for item in items:
            target = item[1]  # type: ignore[index]
            if (name := target.path()) not in self.dead:
                self.dead.add(name)
                work.args[0](*item)  # type: ignore[attr-defined]  # the kernel alone, without its receipt
                raise Died
            yield work(item)


class Twice:
    """An engine that runs each task twice, as a scheduler does that took a slow worker for a dead one."""

    workers = 1

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        for item in items:
            work(item)
            yield work(item)


def table() -> pa.Table:
    near = drifting(500, seed=11)
    copies = near.take(pa.array(np.arange(0, 500, 23)))
    again = [f"z/f/{row}" for row in range(len(copies))]
    return pa.concat_tables([near, copies.set_column(0, near.schema.field(0), pa.array(again))])


def both(root: Path, tables: list[pa.Table], engine: Engine, sizes: TaskSizes = SMALL) -> Manifest:
    run = Run(str(root), engine)
    given = run.do(plain_step("given", {}), lambda context: context.map(write, tables))
    exact = drop_exact_duplicates(run, given, ExactDuplicates(), {}, sizes=sizes)
    return drop_near_duplicates(run, exact, SETTINGS, {}, sizes=sizes)


def fate(root: Path, tables: list[pa.Table], engine: Engine, sizes: TaskSizes = SMALL) -> Fate:
    near = both(root, tables, engine, sizes)
    exact = drop_exact_duplicates(Run(str(root), engine), both_given(root), ExactDuplicates(), {}, sizes=sizes)
    return ids(near), dropped(exact), dropped(near)


def both_given(root: Path) -> Manifest:
    return Run(str(root), LocalEngine(1)).do(plain_step("given", {}), lambda context: [])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Fate:
    found = fate(tmp_path_factory.mktemp("undisturbed"), split(table(), 4), LocalEngine(1))
    assert len(found[0]) > 100 and len(found[1]) >= 22 and len(found[2]) > 100
    return found


def killed_before_commit(root: Path) -> Fate:
    engine = Dying()
    for _ in range(100):
        try:
            both(root, split(table(), 4), engine)
            break
        except Died:
            pass
    assert len(engine.dead) > 30
    return fate(root, split(table(), 4), engine)


def run_twice(root: Path) -> Fate:
    return fate(root, split(table(), 4), Twice())


def shards_in_another_order(root: Path) -> Fate:
    return fate(root, split(table(), 4)[::-1], LocalEngine(1))


def rows_in_another_order(root: Path) -> Fate:
    rows = table()
    return fate(root, split(rows.take(pa.array(np.random.default_rng(1).permutation(len(rows)))), 4), LocalEngine(1))


def another_number_of_shards(root: Path) -> Fate:
    return fate(root, split(table(), 11), LocalEngine(1))


def another_number_of_workers(root: Path) -> Fate:
    with LocalEngine(2) as engine:
        return fate(root, split(table(), 4), engine)


FAULTS = [
    killed_before_commit,
    run_twice,
    shards_in_another_order,
    rows_in_another_order,
    another_number_of_shards,
    another_number_of_workers,
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_the_same_rows_stay_and_the_same_twins_are_named_after(
    tmp_path: Path, undisturbed: Fate, fault: Callable[[Path], Fate]
) -> None:
    assert fault(tmp_path) == undisturbed


def test_other_sizes_of_tasks_leave_the_same_rows(tmp_path: Path, undisturbed: Fate) -> None:
    """The nearest of several kept twins may be another then: not every pair is looked at."""
    kept, exact, near = fate(tmp_path, split(table(), 4), LocalEngine(1), TaskSizes())
    assert (kept, exact, near.keys()) == (undisturbed[0], undisturbed[1], undisturbed[2].keys())


class KilledOnRay(RayEngine):
    """Ray, of which a worker is killed in some phases, with its task done and its receipt not written."""

    folder: Path

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        kernel, root, receipts = work.args  # type: ignore[attr-defined]
        phase = Path(receipts).name
        if phase in ("digests", "buckets", "compare-0", "decide-0", "shards"):
            kernel = Deadly(kernel, str(self.folder / f"killed-{phase}"))
        return super().map(functools.partial(work.func, kernel, root, receipts), items)  # type: ignore[attr-defined]


class Deadly:
    """A kernel that kills its process after its work, the first time that any process gets there."""

    def __init__(self, kernel: Callable[..., Any], flag: str) -> None:
        self.kernel, self.flag = kernel, flag

    def __call__(self, *arguments: Any) -> Any:
        part = self.kernel(*arguments)
        try:
            Path(self.flag).touch(exist_ok=False)
        except FileExistsError:
            return part
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_same_rows_stay_after_ray_lost_workers(tmp_path: Path, undisturbed: Fate) -> None:
    with KilledOnRay(2) as engine:
        engine.folder = tmp_path
        found = fate(tmp_path / "root", split(table(), 4), engine)
    assert len(list(tmp_path.glob("killed-*"))) == 5
    assert found == undisturbed


def test_an_input_file_of_another_name_leaves_the_same_texts(tmp_path: Path) -> None:
    """Ids begin with the file's name: a whole file renamed keeps its rows' order among themselves, so with sources
    apart by priority the same texts stay; ids that do not change leave the same rows (the table above)."""
    rows = table()
    renamed = [str(name).replace("s/f/", "s/g/").replace("z/f/", "z/g/") for name in rows["id"].to_pylist()]
    other = records(renamed, *(rows[name].to_pylist() for name in ("instruction", "response")))
    one = both(tmp_path / "one", split(rows, 4), LocalEngine(1))
    two = both(tmp_path / "two", split(other, 4), LocalEngine(1))
    assert [name.replace("/f/", "/g/") for name in ids(one)] == ids(two)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_short, altered, Path.unlink], ids=["cut short", "altered", "gone"])
@pytest.mark.parametrize("phase", ["signatures/keys", "signatures/rows", "buckets/buckets"])
def test_a_damaged_file_between_the_phases_is_named_with_its_mend(
    tmp_path: Path, undisturbed: Fate, phase: str, damage: Callable[[Path], None]
) -> None:
    folder, kind = phase.split("/")

    class Damaging:
        workers = 1
        hit: Path | None = None

        def map(
            self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
        ) -> Iterator[Result]:
            yield from [work(item) for item in items]
            found = sorted(tmp_path.rglob(f"work/{folder}/{kind}/part-00001.arrow"))
            if found and self.hit is None and "near" in str(found[0]):
                self.hit = found[0]
                damage(self.hit)

    engine = Damaging()
    with pytest.raises(CheckFailed) as raised:
        both(tmp_path, split(table(), 4), engine)
    assert engine.hit is not None and str(engine.hit) in str(raised.value)
    work = engine.hit.parents[2]
    assert f"remove {work} and run the same command again" in str(raised.value)
    shutil.rmtree(work)
    assert fate(tmp_path, split(table(), 4), LocalEngine(1)) == undisturbed

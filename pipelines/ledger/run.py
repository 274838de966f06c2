"""How is a step done once? It is reused if it is finished, else made item by item, and a killed one carries on.

One process at a time makes a step: it holds the lease of the step's work folder, and others wait for it."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pipelines.credentials import carried
from pipelines.errors import RESUME, CheckFailed, Damaged
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.code import code_of
from pipelines.ledger.engine import Engine, TaskDied
from pipelines.ledger.lease import Holder, Lease, Lost, hold
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.processes import peak_memory, reset_peak_memory
from pipelines.ledger.step import DROPPED_ROWS, Resources, Step
from pipelines.ledger.storage import FileRef, TableRef

if TYPE_CHECKING:
    import pyarrow as pa

    from filters.stage import Outcome  # loads Numba, which reading a run does not need

Item = TypeVar("Item")

OUTPUT = "shards"
"""The phase whose files stay: those of the step itself. Files of other phases are scratch."""
WORK = "work"
"""The folder below a step's for its scratch files, receipts and lease. It is removed when the step is finished."""
FILES_PER_MERGE = 64
"""Files that one task merges, and that the driver reads one by one."""
MANY_ITEMS = 1_000
"""From here on the scratch files of a step are removed by tasks."""


AWAY_SECONDS = 60.0
"""How long a run waits for a root that is away."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where one work item may write."""

    folder: str
    index: int

    def __reduce__(self) -> tuple[type[Target], tuple[str, int]]:
        return Target, (self.folder, self.index)

    def path(self, kind: str = "shards", suffix: str = ".parquet", piece: int | None = None) -> str:
        """`<folder>/<kind>/part-00007.parquet`; with `piece`, for items of several files, `part-00007-00002`."""
        name = f"part-{self.index:05d}" + ("" if piece is None else f"-{piece:05d}")
        return storage.join(self.folder, kind, name + suffix)


Work = Callable[[Item, Target], Part]
"""The work on one item. It runs in another process: a module-level function or a `functools.partial` of one."""


class Progress(NamedTuple):
    """How far a phase of a step is. rows_in and rows_kept: of the finished items; None where no rows are conserved.

    In the phase `waiting`, `holder` says who makes the step meanwhile, and `seconds` for how long it was waited. In the
    phase `damaged` it says why a finished step is made again.
    """

    step: str
    phase: str
    done: int
    total: int
    rows_in: int | None
    rows_kept: int | None
    seconds: float
    holder: str = ""


class Cost(NamedTuple):
    """What tasks took: CPU time of all of them, in seconds, and the most memory that one process held, in bytes.

    parts: what their work named by `spend` -> CPU seconds of it.
    """

    core_seconds: float
    memory: int
    parts: dict[str, float]

    def plus(self, other: Cost) -> Cost:
        """What both took."""
        parts = {name: self.parts.get(name, 0.0) + other.parts.get(name, 0.0) for name in self.parts | other.parts}
        return Cost(self.core_seconds + other.core_seconds, max(self.memory, other.memory), parts)


_spent: dict[str, float] = {}
"""CPU seconds by name, of the task that this process runs."""


def spend(name: str, seconds: float) -> None:
    """Say that a part of this task's work took so many CPU seconds: `run.json` and the report name it. A manifest does
    not, since its bytes depend on inputs alone."""
    _spent[name] = _spent.get(name, 0.0) + seconds


class StepResult(NamedTuple):
    """A finished step: its manifest, whether it was reused, the seconds that this took, and what its tasks took. No
    cost of a step that was reused, or whose tasks were all finished before."""

    step: Step
    manifest: Manifest
    reused: bool
    seconds: float
    cost: Cost | None = None


Watch = Callable[[Progress], None]
Perform = Callable[[Step, Callable[[], StepResult]], StepResult]


class StepContext:
    """Where one step is made: `map` runs its work through the engine and keeps a receipt of every finished item."""

    def __init__(self, root: str, step: Step, engine: Engine, watch: Watch) -> None:
        self.root, self.step, self.engine, self.watch = root, step, engine, watch
        self.folder = storage.join(root, "steps", step.folder)
        self.work_folder = storage.join(self.folder, WORK)
        self.cost: Cost | None = None

    def map(
        self, work: Work[Item], items: Sequence[Item], phase: str = OUTPUT, resources: Resources | None = None
    ) -> list[Part]:
        """Run `work` over `items`; returns one Part per item, in order.

        The worker writes an item's receipt after its files, so a resumed step redoes only items without one. Files of
        phases other than `shards` are scratch: they lie below `work/` and are removed when the step is finished.
        resources: of one task, where this phase needs other than the step's.

        Raises: TaskDied: naming the step, the phase, and the item and its file, if its process is killed in every try.
        """
        folder = self.folder if phase == OUTPUT else storage.join(self.work_folder, phase)
        receipts = storage.join(self.work_folder, "receipts", phase)
        parts = _finished_parts(self.root, receipts, len(items))
        todo = [(item, Target(folder, index)) for index, item in enumerate(items) if index not in parts]
        report = _Report(self, phase, parts.values(), len(items))
        task = functools.partial(_work, carried(work), self.root, receipts)
        results = self.engine.map(task, todo, resources or self.step.type.resources)
        try:
            for (_, target), (part, cost) in zip(todo, results, strict=True):
                parts[target.index] = part
                self.cost = cost if self.cost is None else self.cost.plus(cost)
                report.add(part)
        except TaskDied as error:
            raise TaskDied(f"step {self.step.name}, phase {phase}, {_description(error.item)}{error}") from error
        return [parts[index] for index in range(len(items))]

    def merge(self, work: Work[Sequence[FileRef]], files: Sequence[FileRef], product: str) -> Sequence[FileRef]:
        """Merge files in groups of FILES_PER_MERGE, by tasks, until at most so many are left for the caller to read.

        work: merges a group of files into one, the product `product`. A few files are left as they are.
        """
        level = 0
        while len(files) > FILES_PER_MERGE:
            groups = [tuple(files[at : at + FILES_PER_MERGE]) for at in range(0, len(files), FILES_PER_MERGE)]
            files = [part.file(product) for part in self.map(work, groups, f"{product}-{level}")]
            level += 1
        return files

    def remove_work(self, items: int) -> None:
        """Remove scratch files and receipts. Many items leave millions of files, so tasks remove them, by folder."""
        if items > MANY_ITEMS:
            below = [storage.join(self.work_folder, phase) for phase in storage.folders(self.work_folder)]
            folders = [storage.join(folder, kind) for folder in below for kind in storage.folders(folder)]
            for _ in self.engine.map(storage.remove, folders):
                pass
        storage.remove(self.work_folder)


class _Report:
    """Tells `watch` how far a phase is: when it begins, and after every item. Sums are kept, not made again."""

    def __init__(self, context: StepContext, phase: str, finished: Collection[Part], total: int) -> None:
        self.watch, self.step, self.phase, self.total = context.watch, context.step.name, phase, total
        self.kept = context.step.type.kept if phase == OUTPUT else None
        self.started = time.monotonic()
        self.done = len(finished)
        self.rows_in = self.rows_kept = 0
        for part in finished:
            self._count(part)
        self._tell()

    def add(self, part: Part) -> None:
        """One more item is finished."""
        self.done += 1
        self._count(part)
        self._tell()

    def _count(self, part: Part) -> None:
        if self.kept:
            self.rows_in += part.rows_in or 0
            self.rows_kept += part.rows(self.kept)

    def _tell(self) -> None:
        rows_in, rows_kept = (self.rows_in, self.rows_kept) if self.kept else (None, None)
        seconds = time.monotonic() - self.started
        self.watch(Progress(self.step, self.phase, self.done, self.total, rows_in, rows_kept, seconds))


def _description(task: object) -> str:
    """`item 17 (<its file>): ` for the argument of a task; empty if it is not known."""
    match task:
        case (item, Target(index=index)):
            paths = _paths(item)
            return f"item {index}{f' ({paths[0]})' if paths else ''}: "
    return ""


def _paths(item: object) -> list[str]:
    """The paths of the files in an item: a file, or a tuple of files and other values."""
    if isinstance(path := getattr(item, "path", None), str):
        return [path]
    return [path for value in item for path in _paths(value)] if isinstance(item, tuple) else []


def _work(work: Work[Item], root: str, receipts: str, task: tuple[Item, Target]) -> tuple[Part, Cost]:
    item, target = task
    reset_peak_memory()
    _spent.clear()
    begun = time.process_time()
    with storage.verified(_refs(item, *(work.args if isinstance(work, functools.partial) else ()))):
        try:
            part = work(item, target)
        except SystemExit as error:  # of a plugin: the command would end as if it had succeeded
            raise CheckFailed(f"{_description(task)}a stage called sys.exit({error.code!r})") from error
        except Exception as error:
            error.add_note(f"at {_description(task).removesuffix(': ')}")  # shown where the message is not our own
            raise
    cost = Cost(time.process_time() - begun, peak_memory(), dict(_spent))
    storage.write_bytes(storage.join(receipts, _receipt(target.index)), f"{manifests.part_text(part, root)}\n".encode())
    return part, cost


def _refs(*values: object) -> Iterator[FileRef]:
    """The files among what an item is made of. Longer sequences are left out: they are of all shards, and a task reads
    parts of their files."""
    for value in values:
        if isinstance(value, FileRef):
            yield value
        elif isinstance(value, tuple | list) and len(value) <= FILES_PER_MERGE:
            yield from _refs(*value)


def _receipt(index: int) -> str:
    """The name of the receipt of an item."""
    return f"{index:05d}.json"


def _finished_parts(root: str, receipts: str, items: int) -> dict[int, Part]:
    """Item -> its part, of the items that have a receipt. A receipt of another version, or whose files are missing or
    cut short, counts as none.

    A folder is listed once, whatever the number of items, and receipts are read many at a time.
    """
    written = storage.sizes(receipts)
    names = {index: name for index in range(items) if (name := _receipt(index)) in written}
    contents = storage.read_all([storage.join(receipts, name) for name in names.values()])
    parts: dict[int, Part] = {}
    for index, data in zip(names, contents, strict=True):
        with contextlib.suppress(ValueError):  # a damaged receipt is none; pydantic's ValidationError is a ValueError
            parts[index] = manifests.load_part(json.loads(data), root)
    sizes = storage.sizes_of(file.path for part in parts.values() for files in part.files.values() for file in files)
    return {
        index: part
        for index, part in parts.items()
        if all(sizes.get(file.path) == file.bytes for files in part.files.values() for file in files)
    }


def with_code(step: Step, work: Callable[[StepContext], Sequence[Part]], uses: Iterable[object]) -> Step:
    """The step with its key: that of what its work runs. A step that has a key already keeps it."""
    return step if step.code is not None else step._replace(code=code_of(work, uses))


def _call(step: Step, work: Callable[[], StepResult]) -> StepResult:
    return work()


def _ignore(progress: Progress) -> None:
    return None


class Run:
    """One pass over a recipe. `perform` is where a scheduler wraps a step, `watch` where progress is shown.

    name: of the recipe, for processes that wait for a step of this run.
    """

    def __init__(
        self, root: str, engine: Engine, perform: Perform = _call, watch: Watch = _ignore, name: str = ""
    ) -> None:
        self.root, self.engine, self.perform, self.watch, self.name = root, engine, perform, watch, name
        self.results: list[StepResult] = []
        self._damaged: set[str] = set()

    def do(
        self,
        step: Step,
        work: Callable[[StepContext], Sequence[Part]],
        parent: Manifest | None = None,
        uses: Iterable[object] = (),
    ) -> Manifest:
        """Reuse the step, or make it and then record it.

        work: maps the step's items in the context given and returns the parts that make up the step. What it runs is
        part of the step's key. parent: the step whose rows this one takes; all of them must be accounted for. uses:
        functions that work looks up in a registry, by a name in its items.

        Raises: CheckFailed: if they are not.
        """
        step = with_code(step, work, uses)
        result = self.perform(step, functools.partial(self._do, step, work, parent))
        self.results.append(result)
        return result.manifest

    def _do(self, step: Step, work: Callable[[StepContext], Sequence[Part]], parent: Manifest | None) -> StepResult:
        """Reuse the step, or make it while holding its lease. If another process took the lease over, reuse what that
        one makes."""
        begun = time.monotonic()
        work_folder = storage.join(self.root, "steps", step.folder, WORK)
        while (finished := self._finished(step)) is None:
            with contextlib.suppress(Lost), self._lease(step, work_folder) as lease:
                if self._finished(step) is None:  # it may have been made while this process waited
                    made, cost = self._make(step, work, parent, lease)
                    lease.release()  # before its folder is removed
                    storage.remove(work_folder)
                    return StepResult(step, made, False, time.monotonic() - begun, cost)
        storage.remove(work_folder)  # left behind by a kill right after the manifest was written
        parts = len(finished.parts)
        self.watch(Progress(step.name, "reused", parts, parts, finished.rows_in, finished.rows_kept, 0.0))
        return StepResult(step, finished, True, time.monotonic() - begun)

    def _finished(self, step: Step) -> Manifest | None:
        """The manifest of a step that is finished and whose files are there. One that lacks a file is made again."""
        try:
            finished = manifests.load(self.root, step.folder)
            problem = manifests.problem(finished) if finished else ""
        except Damaged as error:
            finished, problem = None, str(error).rpartition("; ")[0] or str(error)
        if not problem:
            return finished
        if step.folder not in self._damaged:
            self._damaged.add(step.folder)
            self.watch(Progress(step.name, "damaged", 0, 1, None, None, 0.0, f"{problem}; the step is made again"))
        return None

    def _lease(self, step: Step, work_folder: str) -> AbstractContextManager[Lease]:
        def on_wait(holder: Holder, seconds: float) -> None:
            self.watch(Progress(step.name, "waiting", 0, 1, None, None, seconds, str(holder)))

        name = f"recipe {self.name}" if self.name else "another run"
        return hold(storage.join(work_folder, "lease"), name, on_wait)

    def _make(
        self, step: Step, work: Callable[[StepContext], Sequence[Part]], parent: Manifest | None, lease: Lease
    ) -> tuple[Manifest, Cost | None]:
        def watch(progress: Progress) -> None:
            lease.check(look=False)
            self.watch(progress)

        context = StepContext(self.root, step, self.engine, watch)
        try:
            parts = work(context)
            lease.check()
            storage.sweep(context.folder)
        except Exception:
            self._wait_for_root(step, lease)
            with contextlib.suppress(OSError):
                lease.check()  # a process that took over may have removed what this one was writing
            raise
        manifest = manifests.save(self.root, step, parts, parent)
        context.remove_work(len(parts))
        return manifest, context.cost

    def _wait_for_root(self, step: Step, lease: Lease) -> None:
        """Wait while the root is away, as a network file system may be for a while. It is, if the lease is gone though
        nobody took it over or finished the step.

        Raises: CheckFailed: if it does not come back.
        """
        begun = time.monotonic()
        while lease.is_gone() and not manifests.is_finished(self.root, step.folder):
            seconds = time.monotonic() - begun
            if seconds > AWAY_SECONDS:
                raise CheckFailed(f"{self.root}: not there any more, or emptied; bring it back, and {RESUME}")
            holder = f"{self.root}, which is not there any more"
            self.watch(Progress(step.name, "waiting", 0, 1, None, None, seconds, holder))
            time.sleep(0.2)


def commit(
    outcome: Outcome, records: pa.Table, target: Target, kept: str = "records", of: TableRef | None = None
) -> Part:
    """Write the rows that a work item kept (product `kept`) and those that it dropped, counted by `stage/reason`.

    records: those that the item took; their column `id` is read. of: their file: then, of the rows kept, only those
    that changed are written, and which ones were kept (`storage.write_selection`), unless most of them changed.

    Raises: CheckFailed: as `check_ids`.
    """
    check_ids(records["id"], outcome.kept["id"], outcome.dropped["id"])
    file = _changed_rows(outcome.kept, records, target, of) if of is not None else None
    if file is None:
        file = storage.write_parquet(target.path(), outcome.kept)
    return _part(file, outcome.dropped, records.num_rows, target, kept)


MOST = 0.5
"""The share of changed rows from which on a shard is written as text: reading two files costs more than it saves."""


def _changed_rows(kept: pa.Table, records: pa.Table, target: Target, of: TableRef) -> TableRef | None:
    """Write rows of a file as a selection with the columns that stages changed. None where most rows changed, or where
    ids do not tell which row is which."""
    import pyarrow.compute as pc

    former, added = records.column_names, kept.column_names[records.num_columns :]
    if pc.count_distinct(records["id"]).as_py() != records.num_rows or kept.column_names[: len(former)] != former:
        return None
    places = pc.index_in(kept["id"], value_set=records["id"])
    before = records.take(places).combine_chunks()
    changes = {
        name: change
        for name in former
        if (change := _differs(kept[name].combine_chunks(), before[name].combine_chunks())).true_count
    }
    replaced = None
    if changes:
        rows = functools.reduce(pc.or_, changes.values())
        if rows.true_count > MOST * kept.num_rows:
            return None
        replaced = storage.Changes(rows, kept.select(list(changes)))
    return storage.write_selection(target.path(), of, places.combine_chunks(), kept.select(["id", *added]), replaced)


def _differs(left: pa.Array, right: pa.Array) -> pa.BooleanArray:
    """Where two columns differ. Of two nulls, or two NaN, neither differs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(left.type):
        whole = pa.int32() if left.type.bit_width == 32 else pa.int64()
        left, right = left.view(whole), right.view(whole)
    return pc.fill_null(pc.not_equal(left, right), pc.xor(left.is_null(), right.is_null()))


def commit_rows(
    shard: TableRef,
    records: pa.Table,
    stays: pa.Array,
    dropped: pa.Table,
    target: Target,
    as_text: bool,
    added: Sequence[str] = (),
) -> Part:
    """As `commit`, for a work item that keeps rows of one file as they are.

    shard, records: the file and its rows; where no text is written and no row dropped, `id` alone. stays: bool [rows].
    as_text: write the rows themselves, not a selection of the file's rows (`storage.write_selection`). added: the
    columns of `records` that the file has not.

    Raises: CheckFailed: as `check_ids`.
    """
    own = records.select(["id", *added]).filter(stays)
    check_ids(records["id"], own["id"], dropped["id"])
    if as_text:
        file = storage.write_parquet(target.path(), records.filter(stays))
    else:
        import pyarrow.compute as pc

        file = storage.write_selection(target.path(), shard, pc.indices_nonzero(stays), own)
    return _part(file, dropped, records.num_rows, target)


def _part(file: TableRef, dropped: pa.Table, rows_in: int, target: Target, kept: str = "records") -> Part:
    files = {kept: (file,)}
    if not dropped.num_rows:
        return Part(rows_in=rows_in, files=files)
    files[DROPPED_ROWS] = (storage.write_parquet(target.path("dropped"), dropped),)
    return Part(rows_in=rows_in, files=files, counts=count_reasons(dropped))


def check_ids(taken: pa.ChunkedArray, kept: pa.ChunkedArray, dropped: pa.ChunkedArray) -> None:
    """Check that each row that an item took is kept or dropped, once, and that those kept are in the order taken.

    Raises: CheckFailed: naming a row that is lost, doubled, not one of those taken, or in another place.
    """
    if not len(dropped) and kept.equals(taken):
        return
    import numpy as np  # here, as work imports them: reading a run does not need them
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.chunked_array([*kept.chunks, *dropped.chunks], taken.type)
    places = pc.index_in(ids, value_set=taken)
    if places.null_count:
        raise CheckFailed(f"row {ids.filter(places.is_null())[0]}: kept or dropped, but not one of the rows taken")
    rows = places.to_numpy()
    times = np.bincount(rows, minlength=len(taken))
    if (len(ids) != len(taken) or times.max(initial=0) > 1) and pc.count_distinct(taken).as_py() == len(taken):
        row = int(np.argmax(times != 1))
        raise CheckFailed(f"row {taken[row]}: {'neither kept nor dropped' if not times[row] else 'written twice'}")
    own = rows[: len(kept)]
    if (own[1:] < own[:-1]).any():
        row = int(own[int(np.argmax(own[1:] < own[:-1])) + 1])
        raise CheckFailed(f"row {taken[row]}: kept in another place than it was taken")


def count_reasons(dropped: pa.Table) -> dict[str, int]:
    """`stage/reason` -> rows dropped, sorted."""
    reasons = dropped.group_by(["stage", "reason"]).aggregate([([], "count_all")])
    names = zip(
        reasons["stage"].to_pylist(), reasons["reason"].to_pylist(), reasons["count_all"].to_pylist(), strict=True
    )
    return dict(sorted((f"{stage}/{reason}", rows) for stage, reason, rows in names))

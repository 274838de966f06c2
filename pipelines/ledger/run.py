"""Doing a step: reuse it if it is there, else make it, shard by shard, so that a kill at any moment only delays."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from filters.stage import Outcome
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.engine import Engine
from pipelines.ledger.manifest import Manifest, Part, Step

Item = TypeVar("Item")


@dataclass(frozen=True)
class Target:
    """Where one work item may write."""

    folder: str
    index: int

    def path(self, kind: str = "shards", suffix: str = ".parquet", piece: int | None = None) -> str:
        """`<folder>/<kind>/part-00007.parquet`; with `piece`, for items of several files, `part-00007-00002`."""
        name = f"part-{self.index:05d}" + ("" if piece is None else f"-{piece:05d}")
        return storage.join(self.folder, kind, name + suffix)


Kernel = Callable[[Item, Target], Part]
"""The work on one item. It runs in another process: a module-level function or a `functools.partial` of one."""


class Progress(NamedTuple):
    """How far a step is. rows_in and rows_kept count this step's finished items of this phase."""

    step: str
    phase: str
    done: int
    total: int
    rows_in: int
    rows_kept: int
    seconds: float


class Performed(NamedTuple):
    """A step that is done, whether it was found or made, and how long that took."""

    step: Step
    manifest: Manifest
    reused: bool
    seconds: float


Watch = Callable[[Progress], None]
Perform = Callable[[Step, Callable[[], Performed]], Performed]


class Desk:
    """Where one step is made: `map` runs its work through the engine and remembers what is finished."""

    def __init__(self, root: str, step: Step, engine: Engine, watch: Watch) -> None:
        self.root, self.step, self.engine, self.watch = root, step, engine, watch
        self.folder = storage.join(root, "steps", step.folder)

    def map(self, kernel: Kernel[Item], items: Sequence[Item], phase: str = "shards") -> list[Part]:
        """Run `kernel` over `items`; one Part per item, in order.

        An item's receipt is written by the worker after its files, so a resumed step redoes only what has none. Phases
        other than `shards` are scratch: they lie below `work/` and are gone when the step is done.
        """
        folder = self.folder if phase == "shards" else storage.join(self.folder, "work", phase)
        receipts = storage.join(self.folder, "work", "receipts", phase)
        parts = [_receipt(self.root, receipts, index) for index in range(len(items))]
        todo = [(items[index], Target(folder, index)) for index, part in enumerate(parts) if part is None]
        started = time.monotonic()
        self._tell(phase, parts, started)
        work = functools.partial(_work, kernel, self.root, receipts)
        for (_, target), part in zip(todo, self.engine.map(work, todo), strict=True):
            parts[target.index] = part
            self._tell(phase, parts, started)
        return [part for part in parts if part is not None]

    def _tell(self, phase: str, parts: Sequence[Part | None], started: float) -> None:
        finished = [part for part in parts if part is not None]
        rows_in = sum(part.rows_in if part.rows_in is not None else part.rows_kept for part in finished)
        kept = sum(part.rows_kept for part in finished)
        self.watch(
            Progress(self.step.name, phase, len(finished), len(parts), rows_in, kept, time.monotonic() - started)
        )


def _work(kernel: Kernel[Item], root: str, receipts: str, task: tuple[Item, Target]) -> Part:
    item, target = task
    part = kernel(item, target)
    storage.write_json(_receipt_path(receipts, target.index), manifests.dump_part(part, root))
    return part


def _receipt_path(receipts: str, index: int) -> str:
    return storage.join(receipts, f"{index:05d}.json")


def _receipt(root: str, receipts: str, index: int) -> Part | None:
    """The finished part, or None; a receipt whose files are gone or cut short is no receipt."""
    path = _receipt_path(receipts, index)
    if not storage.exists(path):
        return None
    part = manifests.load_part(storage.read_json(path), root)
    whole = all(storage.size(shard.path) == shard.bytes for shard in (*part.shards, *part.dropped, *part.side))
    return part if whole else None


def _call(step: Step, work: Callable[[], Performed]) -> Performed:
    return work()


def _ignore(progress: Progress) -> None:
    return None


class Run:
    """One pass over a recipe. `perform` is the seam where a scheduler wraps a step, `watch` where a bar looks on."""

    def __init__(self, root: str, engine: Engine, perform: Perform = _call, watch: Watch = _ignore) -> None:
        self.root, self.engine, self.perform, self.watch = root, engine, perform, watch
        self.performed: list[Performed] = []

    def do(self, step: Step, work: Callable[[Desk], Sequence[Part]], of: Manifest | None = None) -> Manifest:
        """Reuse the step, or make it and then record it.

        work: maps the step's items on the desk and returns the parts that make up the step. of: the parent whose
        records this step takes; all of them must be accounted for. Errors: CheckFailed where they are not.
        """
        performed = self.perform(step, functools.partial(self._do, step, work, of))
        self.performed.append(performed)
        return performed.manifest

    def _do(self, step: Step, work: Callable[[Desk], Sequence[Part]], of: Manifest | None) -> Performed:
        started = time.monotonic()
        work_folder = storage.join(self.root, "steps", step.folder, "work")
        found = manifests.load(self.root, step.folder)
        if found is not None:
            storage.remove(work_folder)  # a kill right after the manifest leaves it behind
            rows = found.rows_in if found.rows_in is not None else found.rows_kept
            self.watch(Progress(step.name, "reused", len(found.parts), len(found.parts), rows, found.rows_kept, 0.0))
            return Performed(step, found, True, time.monotonic() - started)
        desk = Desk(self.root, step, self.engine, self.watch)
        parts = work(desk)
        storage.sweep(desk.folder)
        made = manifests.save(self.root, step, parts, of)
        storage.remove(work_folder)
        return Performed(step, made, False, time.monotonic() - started)


def commit(outcome: Outcome, rows_in: int, target: Target) -> Part:
    """Write what a kernel kept and what it dropped; the Part counts the dropped rows by `stage/reason`."""
    kept = storage.write_parquet(target.path(), outcome.kept)
    if not outcome.dropped.num_rows:
        return Part(rows_in=rows_in, shards=(kept,))
    dropped = storage.write_parquet(target.path("dropped"), outcome.dropped)
    reasons = outcome.dropped.group_by(["stage", "reason"]).aggregate([([], "count_all")])
    named = zip(
        reasons["stage"].to_pylist(), reasons["reason"].to_pylist(), reasons["count_all"].to_pylist(), strict=True
    )
    counts = {f"{stage}/{reason}": rows for stage, reason, rows in named}
    return Part(rows_in=rows_in, shards=(kept,), dropped=(dropped,), counts=dict(sorted(counts.items())))


def parameters(**values: Any) -> dict[str, Any]:
    """A step's parameters from pydantic models and plain values, as JSON-able data."""
    return {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in values.items()
    }

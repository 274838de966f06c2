"""A Ray engine whose workers are killed where a test says, and nowhere else."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from flows.ray.engine import RayEngine
from pipelines.ledger.engine import ONE_CPU
from pipelines.ledger.step import Resources

Item = TypeVar("Item")
Result = TypeVar("Result")


class KilledOnRay(RayEngine):
    """One worker of each phase is killed after its work and before its receipt, so that the work is done again.

    folder: where a file `killed-<step>-<phase>` is left for each worker killed. phases: only in these; None for all.
    """

    def __init__(self, workers: int, folder: Path, phases: frozenset[str] | None = None) -> None:
        super().__init__(workers)
        self.folder, self.phases = folder, phases

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        assert isinstance(work, functools.partial), "an item of a step has a receipt"
        task, root, receipts = work.args
        *_, folder, _, _, phase = Path(receipts).parts  # steps/<step>-<key>/work/receipts/<phase>
        if self.phases is None or phase in self.phases:
            task = KillOnce(task, str(self.folder / f"killed-{folder.rpartition('-')[0]}-{phase}"))
        return super().map(functools.partial(work.func, task, root, receipts), items, resources)

    def killed(self) -> list[str]:
        """`<step>-<phase>` of each worker that was killed, sorted."""
        return sorted(path.name.removeprefix("killed-") for path in self.folder.glob("killed-*"))


class KillOnce:
    """Work that kills its process when it is done, in the first process that creates the file `flag`."""

    def __init__(self, work: Callable[..., Any], flag: str) -> None:
        self.work, self.flag = work, flag

    def __call__(self, *arguments: Any) -> Any:
        part = self.work(*arguments)
        try:
            Path(self.flag).touch(exist_ok=False)
        except FileExistsError:
            return part
        os.kill(os.getpid(), signal.SIGKILL)

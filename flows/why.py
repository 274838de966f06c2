"""What became of a row, up to the training steps that read it and the checkpoints that have seen it?"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.console import current_console, quantity
from pipelines.audit.rows import FILES_PER_ITEM, Matches, RowIndex
from pipelines.audit.why import RowFate, StepFate
from pipelines.audit.why import why as fate_of
from pipelines.errors import RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Progress, Run
from pipelines.ledger.runs import RecordedRun, open_run
from training.row_use import RowUse, trainings_that_read

QUIET_SECONDS = 2.0
"""An index that takes longer to make is announced, with its progress."""


class WhyAnswer(RowFate):
    """The fate of a row. `winnow why --json` prints it.

    trainings: the trainings below the root on the packs of the run, if these contain the row for training.
    """

    trainings: tuple[RowUse, ...] = ()


class FoundRow(BaseModel):
    """A row with the text that was searched. step: whose files have the row with this text, the first of the run."""

    model_config = ConfigDict(frozen=True)

    step: str
    fate: WhyAnswer


class FoundRows(BaseModel):
    """The rows with a text. `winnow why --text ... --json` prints it.

    places: rows of files that have the text: at the source, and once more where a step rewrote something else in the
    row. rows: the first of them, each once.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    places: int
    rows: tuple[FoundRow, ...]


def why(row: str, run: str = "latest", root: str = "./winnow-data") -> WhyAnswer:
    """The fate of a row in a run: its steps, its packs, and the trainings that read these.

    The first call for a run makes an index of its rows, and one of its packs, below the root.

    Raises: RunError: if there is no such run, or the run never had such a row. CheckFailed: if its files were changed.
    """
    recorded = open_run(root, run, failed=True)
    with _index(recorded) as index:
        return _answer(recorded, row.strip(), index)


def why_text(text: str, run: str = "latest", root: str = "./winnow-data", limit: int = 20) -> FoundRows:
    """The fates of the rows whose instruction or response is `text`, apart from white space, at the source or as a step
    rewrote them. The first call for a run makes an index of its texts. limit: of the
    rows that are told.

    Raises: RunError: if there is no such run, or no row has the text.
    """
    if not text.strip():
        raise WinnowError("--text: it is empty; give the whole instruction, or the whole response")
    recorded = open_run(root, run, failed=True)
    with _index(recorded) as index:
        matches = index.with_text(text, limit)
        if not matches.first:
            raise RunError(
                f"no row of run {recorded.id} has this text as its whole instruction or response; `winnow similar "
                f"{recorded.id} --text ...` finds rows of the corpus that are like it"
            )
        return _found(recorded, matches, index)


def why_digest(digest: str, run: str = "latest", root: str = "./winnow-data", limit: int = 20) -> FoundRows:
    """The same for the digest of a record: 32 hex digits. Raises: WinnowError: if it is no digest."""
    try:
        value = bytes.fromhex(digest.strip())
    except ValueError:
        value = b""
    if len(value) != 16:
        raise WinnowError(f"--digest {digest}: a digest has 32 hex digits, as `winnow why ID` shows it")
    recorded = open_run(root, run, failed=True)
    with _index(recorded) as index:
        matches = index.with_digest(value, limit)
        if not matches.first:
            raise RunError(f"no row of run {recorded.id} has the digest {digest}, at its source or later")
        return _found(recorded, matches, index)


def _found(run: RecordedRun, matches: Matches, index: RowIndex) -> FoundRows:
    rows = tuple(FoundRow(step=match.step, fate=_answer(run, match.id, index)) for match in matches.first)
    return FoundRows(run=run.id, places=matches.rows, rows=rows)


def _answer(run: RecordedRun, row: str, index: RowIndex) -> WhyAnswer:
    fate = fate_of(run, row, index)
    packs = run.product("packs")
    places = [place.pack for place in fate.history[-1].places or () if place.split == "train"]
    trainings = trainings_that_read(run.root, packs.key, places) if packs and places else []
    return WhyAnswer(**dict(fate), trainings=tuple(trainings))


@contextlib.contextmanager
def _index(run: RecordedRun) -> Iterator[RowIndex]:
    """The index of a run's rows. It is made with a pool of local processes, and below a temporary folder if the root
    cannot be written to."""
    files = max((len(step.all_files) for step in run.steps), default=0)
    workers = max(1, min(-(-files // FILES_PER_ITEM), os.cpu_count() or 1))
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(LocalEngine(workers))
        progress = stack.enter_context(_Announced(run.id))
        place = run.root
        if storage.is_local(place) and not os.access(storage.join(place, "steps"), os.W_OK):
            place = stack.enter_context(tempfile.TemporaryDirectory())
        yield RowIndex(run, Run(place, engine, watch=progress.watch))


class _Announced:
    """Shows the progress of an index that takes longer than QUIET_SECONDS."""

    def __init__(self, run: str) -> None:
        self.run, self.began, self.said = run, time.monotonic(), ""
        self._stack = contextlib.ExitStack()

    def watch(self, progress: Progress) -> None:
        """Called by the steps as they are made."""
        if progress.phase == "reused" or (progress.phase != "waiting" and progress.done == progress.total):
            return
        if time.monotonic() - self.began < QUIET_SECONDS and progress.phase != "waiting":
            return
        console = current_console()
        if not self.said:
            self._stack.enter_context(console)
        if progress.step != self.said:
            self.said = progress.step
            console.note(
                f"{progress.step}: made once for run {self.run}, "
                f"{quantity(progress.total, 'part')}; later answers take a second"
            )
        console.watch(progress)

    def __enter__(self) -> _Announced:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()


__all__ = ["FoundRow", "FoundRows", "StepFate", "WhyAnswer", "why", "why_digest", "why_text"]

"""What an export is: a new folder, complete or absent. The parts that the formats share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import datasets

from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun


class Exported(NamedTuple):
    """A finished export: its folder, the files in it (relative, sorted), and its rows (of text, or drawn)."""

    folder: str
    files: tuple[str, ...]
    rows: int


Export = Callable[[RecordedRun, str], Exported]
"""Write the corpus of a run into the new folder `out`.

Raises:
    InputError: if `out` is in use, cannot be written or is not local.
    WinnowError: if the run has no step that the format needs.
    CheckFailed: if there is nothing to export.
"""


@contextlib.contextmanager
def new_folder(out: str) -> Iterator[Path]:
    """A folder to write into. It appears at `out` when the block ends; if the block fails, it does not.

    Raises: InputError: if `out` is in use, cannot be written or is not local.
    """
    if not storage.is_local(out):
        raise InputError(f"{out}: an export is written to a local folder; copy it from there")
    target = folder_of(out)
    _check_unused(out, target)
    try:
        with storage.write_folder(str(target)) as folder:
            yield folder
            _check_unused(out, target)  # another export may have ended meanwhile
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error})") from error


def _check_unused(out: str, target: Path) -> None:
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(f"{out}: there is something here already; name another folder, or remove this one")


def folder_of(out: str) -> Path:
    """The local path of `out`."""
    return Path(out.removeprefix("file://")).resolve()


def exported(out: str, rows: int) -> Exported:
    """The description of a finished export."""
    folder = folder_of(out)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Exported(str(folder), tuple(files), rows)


def check_rows(run: RecordedRun) -> None:
    """Raises: CheckFailed: if the corpus has no row."""
    if not run.records.rows_kept:
        raise CheckFailed("there is no record to export")


def export_text(
    run: RecordedRun,
    out: str,
    write: Callable[[datasets.Dataset, Path, str], None],
    describe: Callable[[Path], None] | None = None,
) -> Exported:
    """Export the records of a run, shard by shard, with all columns but the digest. One shard is in memory at a time.

    write: (shard, folder, name without suffix) -> a file in the folder; names are `train-00000-of-00012` ...
    describe: writes documents into the folder, after the files.

    Raises: as `Export`.
    """
    check_rows(run)
    shards = [shard for shard in run.records.shards if shard.rows]
    with new_folder(out) as folder, _without_progress_bars():
        for index, shard in enumerate(shards):
            with storage.verified([shard]):
                table = storage.read_parquet(shard.path).drop_columns(["digest"])
            dataset = datasets.Dataset(datasets.table.InMemoryTable(table))
            write(dataset, folder, f"train-{index:05d}-of-{len(shards):05d}")
        if describe is not None:
            describe(folder)
    return exported(out, sum(shard.rows for shard in shards))


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """`datasets` draws a progress bar for each file, over the caller's own."""
    disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            datasets.enable_progress_bars()

"""Is a run still what it was when it was recorded? Every file, count, row and id is checked from the run's own files.

`run_problems` reads every byte of a run once for its digest, and the columns that `pipelines.audit.contents` needs. It
reports all problems, not only the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipelines.audit.contents import content_problems, duplicate_ids, pack_problems
from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.engine import cpus
from pipelines.ledger.manifest import AnyFile, Manifest
from pipelines.ledger.run import WORK
from pipelines.ledger.runs import CALIBRATION, CHECKSUMS, EVALUATIONS, LINEAGE, RECIPE, REPORT, RUN, RecordedRun

BUILD_AGAIN = "build the recipe again, which records the run anew"

MAX_PROBLEMS = 20
"""Problems that a message lists."""

OnBytes = Callable[[int], None]
"""Called with the bytes of each file that was read for its digest."""


class Verified(BaseModel):
    """What was checked: steps, files (with their digests), and rows of the corpus (with distinct ids)."""

    model_config = ConfigDict(frozen=True)

    steps: int
    files: int
    rows: int


def verify(run: RecordedRun) -> Verified:
    """Check a run: see `run_problems`.

    Raises: CheckFailed: naming each file or step with a problem, and what to do.
    """
    files: list[str] = []
    raise_problems(list(run_problems(run, files)))
    return Verified(steps=len(run.steps), files=len(files), rows=run.records.rows_kept or 0)


def raise_problems(problems: Sequence[str]) -> None:
    """Raises: CheckFailed: with these problems, each on a line and once, if there are any."""
    problems = list(dict.fromkeys(problems))
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise CheckFailed("\n".join([*problems[:MAX_PROBLEMS], *([f"and {more} more problems"] if more > 0 else [])]))


def run_problems(
    run: RecordedRun,
    files: list[str],
    on_bytes: OnBytes = lambda count: None,
    checked: set[str] | None = None,
) -> Iterator[str]:
    """What is wrong with a run: its own files and the manifests of its steps, against `checksums.json`; the files of
    its steps, against the manifests; rows in and out of each part and step; the reasons; the columns of each table;
    that each step took the rows that the one before it kept, in their order; the packs; and that every id occurs once.

    files: the files that were checked are added. checked: folders of steps; those in it are not checked again, and
    those that were checked are added.
    """
    checked = set() if checked is None else checked
    yield from _run_files(run, files)
    by_key = {step.key: step for step in run.steps}
    sound = True
    for step in run.steps:
        if step.folder in checked:
            continue
        checked.add(step.folder)
        mend = remake(run, step)
        problems = list(step_problems(run.root, step, mend, files, on_bytes))
        if not manifests.has_own_key(step):
            path = manifests.path_of(run.root, step.folder)
            problems.append(f"{path}: its parameters are not those of its key; {mend}")
        parent = by_key.get(step.parents[0]) if step.parents else None
        if step.kept and parent is not None and parent.kept and step.rows_in != parent.rows_kept:
            problems.append(
                f"step {step.step}: took {step.rows_in} rows, but step {parent.step} kept {parent.rows_kept}; {mend}"
            )
        if not problems:  # damaged files cannot be read
            problems += list(_guarded(content_problems(step, parent if sound else None, mend), step, mend))
        sound = sound and not problems
        yield from problems
    tokens, packs = run.product("tokens"), run.product("packs")
    if sound and tokens is not None and packs is not None:
        yield from _guarded(pack_problems(tokens, packs, remake(run, packs)), packs, remake(run, packs))
    if sound:
        twice = duplicate_ids(run.records)
        if twice:
            yield f"run {run.id}: {twice} ids of the corpus stand twice"


def _guarded(problems: Iterator[str], step: Manifest, mend: str) -> Iterator[str]:
    """The problems; a table that lacks a column or cannot be read is one."""
    try:
        yield from problems
    except (InputError, KeyError, ValueError) as error:
        yield f"step {step.step}: a table is not what the step writes ({error}); {mend}"


def remake(run: RecordedRun, step: Manifest) -> str:
    """How a damaged step is mended."""
    return f"remove {storage.join(run.root, 'steps', step.folder)} and build again"


def _run_files(run: RecordedRun, files: list[str]) -> Iterator[str]:
    """The files of the run's own folder and the manifests of its steps, against `checksums.json`."""
    path = storage.join(run.folder, CHECKSUMS)
    if not storage.exists(path):
        yield f"{path}: missing, so the run's files cannot be checked; {BUILD_AGAIN}"
        return
    try:
        digests = storage.read_json(path)
    except CheckFailed as error:
        yield f"{error}; remove it and {BUILD_AGAIN}"
        return
    if not isinstance(digests, dict):
        yield f"{path}: damaged since it was written (no object); remove it and {BUILD_AGAIN}"
        return
    recorded = {storage.join(run.root, name): digest for name, digest in digests.items()}
    mends = {storage.join(run.folder, name): BUILD_AGAIN for name in (RUN, RECIPE)}
    mends[storage.join(run.folder, LINEAGE)] = f"remove it and {BUILD_AGAIN}"
    mends |= {manifests.path_of(run.root, step.folder): remake(run, step) for step in run.steps}
    optional = {
        EVALUATIONS: "remove it and score the checkpoints again with `winnow evaluate`",
        CALIBRATION: "remove it and run `winnow calibrate` again",
        REPORT: f"write it again with `winnow report {run.id}`",
    }
    for name, mend in optional.items():
        file = storage.join(run.folder, name)
        # A report of an earlier version has no digest.
        if file in recorded or (storage.exists(file) and name != REPORT):
            mends[file] = mend
    for file, mend in mends.items():
        if file not in recorded:
            yield f"{file}: {CHECKSUMS} does not list it; {mend}"
        elif not storage.exists(file):
            yield f"{file}: missing; {mend.removeprefix('remove it and ')}"
        elif storage.digest(file) != recorded[file]:
            yield f"{file}: changed since it was recorded; {mend}"
    for name in sorted(recorded.keys() - mends.keys()):
        yield f"{path}: lists {name}, which is no file of the run; {BUILD_AGAIN}"
    known = {*mends, path, storage.join(run.folder, REPORT)}
    for name in storage.files(run.folder):
        if storage.join(run.folder, name) not in known and not name.startswith("."):  # a killed writer's
            yield f"{storage.join(run.folder, name)}: no file of the run; remove it"
    files += [*mends, path]


def step_problems(
    root: str, step: Manifest, mend: str, files: list[str], on_bytes: OnBytes = lambda count: None
) -> Iterator[str]:
    """The files that a manifest names, its counts, and files that it does not name."""
    for index, part in enumerate(step.parts):
        try:
            part.check(step.kept, f"step {step.step}, part {index}")
        except CheckFailed as error:
            yield f"{error}; {mend}"
    damaged = False
    with ThreadPoolExecutor(max(2, cpus())) as threads:  # hashing releases the interpreter lock
        for file, problem in zip(step.all_files, threads.map(_file_problem, step.all_files), strict=True):
            on_bytes(file.bytes)
            if problem:
                damaged = True
                yield f"{file.path}: {problem}; {mend}"
    files += [file.path for file in step.all_files]
    if not damaged:
        counted = _reasons(step)
        if step.kept and counted != Counter(step.reasons):
            yield f"{manifests.path_of(root, step.folder)}: its reasons are not those of the rows dropped; {mend}"
    manifest = manifests.path_of(root, step.folder)
    folder, known = manifest.rpartition("/")[0], {manifest, *(file.path for file in step.all_files)}
    for name in storage.files_below(folder):
        # Whoever reads all files of a folder would take it for the step's. Scratch files of a process that was killed
        # just after it wrote the manifest are removed when the step is reused.
        if storage.join(folder, name) not in known and not name.startswith(f"{WORK}/"):
            yield f"{storage.join(folder, name)}: no manifest names this file; remove it"


def _file_problem(file: AnyFile) -> str | None:
    size = storage.size(file.path)
    if size < 0:
        return "missing"
    if size != file.bytes or storage.digest(file.path) != file.digest:
        return "changed since it was written"
    return None


def _reasons(step: Manifest) -> Counter[str]:
    """`stage/reason` -> rows, of the dropped rows themselves."""
    counted: Counter[str] = Counter()
    for file in step.dropped:
        table = pl.DataFrame(storage.read_parquet(file.path, ["stage", "reason"]))
        for stage, reason, rows in table.group_by("stage", "reason").len().iter_rows():
            counted[f"{stage}/{reason}"] += rows
    return counted

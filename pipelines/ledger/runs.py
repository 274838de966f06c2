"""Which runs were recorded, and of what are they made?

    ROOT/runs/<run>/run.json          the run's steps in order, its settings, and which steps hold corpus and tokens
                    recipe.yaml       the recipe as the user wrote it
                    lineage.jsonl     OpenLineage events of the run and of each step made
                    evaluations.json  scores of checkpoints trained on this run
                    calibration.json  agreement of the recipe's scores with people's ratings
                    report.html
                    checksums.json    digest of each file above, and of each step's manifest
    ROOT/failed/<run>/                a run that has begun and has not succeeded: run.json (with its status and its
                                      error), recipe.yaml, checksums.json, and report.html as far as it came

A manifest names the files of its step with their digests, and `checksums.json` names the manifests. So every byte that
a run stands for is covered from there.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from pydantic import BaseModel

from pipelines.credentials import masked, without_secrets
from pipelines.errors import Damaged, DamageWarning, RunError, nearest
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.layout import check_layout, write_layout
from pipelines.ledger.lease import Holder, Lease, hold, this_process
from pipelines.ledger.lineage import replay
from pipelines.ledger.manifest import Manifest

if TYPE_CHECKING:
    from pipelines.ledger.run import StepResult

CALIBRATION = "calibration.json"
CHECKSUMS = "checksums.json"
EVALUATIONS = "evaluations.json"
LINEAGE = "lineage.jsonl"
RECIPE = "recipe.yaml"
REPORT = "report.html"
RUN = "run.json"

WRITTEN_TRIES = 20
"""How often a run that is being recorded is read again."""

AGAIN = "build the recipe again, or remove the run's folder"
"""What to do about a damaged file of a run."""

LEASE = ".lease"
"""The folder, below a run's, of the lease of the process that records it."""

FAILED = "failed"
"""The folder of runs that have not succeeded."""

Status = Literal["finished", "failed", "stopped", "killed", "running", "unknown"]
"""Of a run. `stopped`: by a signal. `killed`: its process is gone. `unknown`: it runs on another machine, or was killed
there."""


class RecordedRun(NamedTuple):
    """A recorded run: its root, its id, the content of `run.json`, and the manifests of its steps in order."""

    root: str
    id: str
    info: dict[str, Any]
    steps: tuple[Manifest, ...]

    @property
    def folder(self) -> str:
        """The run's folder."""
        return run_folder(self.root, self.id) if self.status == "finished" else failed_folder(self.root, self.id)

    @property
    def status(self) -> Status:
        """Whether the run finished, or what became of it."""
        return status_of(self.info)

    def step(self, name: str) -> Manifest | None:
        """The run's step of that name; None where the recipe leaves it out."""
        return next((step for step in self.steps if step.step == name), None)

    def product(self, name: str) -> Manifest | None:
        """The step that holds `corpus`, `tokenizer`, `tokens` or `packs`; None where the run has no such product."""
        return next((step for step in self.steps if step.key == self.info.get(name)), None)

    @property
    def records(self) -> Manifest:
        """The last step that holds text records: the corpus.

        Raises: RunError: of a failed run that has none.
        """
        corpus = self.product("corpus")
        if corpus is None:
            raise RunError(f"run {self.id}: it ended before any row was read")
        return corpus

    def records_of(self, step: str | None) -> Manifest:
        """The step of that name that keeps text records; the corpus for None.

        Raises: RunError: if there is no such step.
        """
        if step is None:
            return self.records
        manifest = self.step(step)
        names = [one.step for one in self.steps if one.kept == self.records.kept]
        if manifest is None or step not in names:
            raise RunError(f"--records {step}: no step of run {self.id} that keeps records; {nearest(step, names)}")
        return manifest


def run_folder(root: str, run: str) -> str:
    """The folder of a run."""
    return storage.join(root, "runs", run)


def failed_folder(root: str, run: str) -> str:
    """The folder of a run that has not succeeded."""
    return storage.join(root, FAILED, run)


def run_id(recipe: str, last: Manifest) -> str:
    """`<recipe>-<8 hex digits>`, from the run's last step: the same recipe on the same inputs is the same run."""
    return f"{recipe}-{hashlib.blake2b(last.key.encode(), digest_size=4).hexdigest()}"


def record(
    root: str,
    recipe: str,
    recipe_text: str,
    settings: Mapping[str, Any],
    products: Mapping[str, Manifest],
    results: Sequence[StepResult],
    lines: str = "",
    sources: Mapping[str, Mapping[str, str]] | None = None,
    is_arm: bool = False,
) -> RecordedRun:
    """Record a run that is finished.

    recipe: its name. recipe_text: as the user wrote it. settings: the recipe as read, JSON-able. products: what the run
    made -> the step that holds it; `corpus` at least, and `tokenizer`, `tokens`, `packs` of a whole build. results: its
    steps in order. lines: its events (`Lineage.lines`); without, or if all steps were reused, they are made from the
    results. sources: source -> title, home, licence and revision of its data set, of those that have them; None records
    nothing of that. is_arm: an ablation made it, so that it is not `latest` until it is built by itself.
    """
    settings, recipe_text = without_secrets(settings), masked(recipe_text)
    write_layout(root)
    name = run_id(recipe, products.get("packs") or products["corpus"])
    folder = run_folder(root, name)
    with _writing(folder):
        made = [result for result in results if not result.reused]
        path = storage.join(folder, RUN)
        before = _read_before(root, name)
        measured = {step["key"]: step for step in before.get("steps", [])}
        info = {
            "run": name,
            "recipe": recipe,
            "finished": _finished(root) if made or not before else before["finished"],
            **{product: step.key for product, step in products.items()},
            "steps": [_entry(result, measured.get(result.step.key)) for result in results],
            "environment": environment() if made or not before else before.get("environment", {}),
            "settings": dict(settings),
            **({} if sources is None else {"sources": sources}),
            **({"arm": True} if is_arm and (not before or before.get("arm")) else {}),
        }
        storage.write_bytes(storage.join(folder, RECIPE), recipe_text.encode())
        lineage = storage.join(folder, LINEAGE)
        written = storage.read_bytes(lineage) if storage.exists(lineage) else b""
        if events := bool(made or not written):  # in one write: a kill leaves all of these events or none
            happened = lines if lines and made else replay(root, recipe, recipe_text, settings, results, now).lines
            storage.write_bytes(lineage, written + happened.encode())
        storage.write_json(path, info)
        _write_checksums(root, name, results, lineage_written=events)
    return RecordedRun(root, name, info, tuple(result.manifest for result in results))


def _read_before(root: str, run: str) -> dict[str, Any]:
    """The content of `run.json` of a run that is recorded again; nothing of a damaged one, which is written anew."""
    with contextlib.suppress(FileNotFoundError, Damaged):
        return read_info(root, "runs", run, check=False)
    return {}


GC_LEASE = "steps/.gc"
"""The folder below a root of the lease of `winnow gc`. Nothing is removed while a run is recorded as running, and a run
that was so recorded waits for this lease: so a run never reuses a step that is being removed."""


def wait_for_gc(root: str, on_wait: Callable[[Holder, float], None] | None = None) -> None:
    """Wait until no `winnow gc` is at work. Called after the run was recorded as running."""
    folder = storage.join(root, GC_LEASE)
    if storage.files(folder):
        with hold(folder, "a build", on_wait):
            pass


class Attempt:
    """A run that has begun, and the record that says so until it has succeeded."""

    def __init__(self, root: str, recipe: str, recipe_text: str, settings: Mapping[str, Any], steps: Sequence[str]):
        """Record that a run begins. recipe, recipe_text, settings: as of `record`. steps: names of its steps, in order.

        Two runs of the same settings and steps have the same id, so a run that is started again replaces its record.
        """
        canonical = json.dumps([FAILED, recipe, without_secrets(settings), list(steps)], sort_keys=True)
        self.root, settings, recipe_text = root, without_secrets(settings), masked(recipe_text)
        self.id = f"{recipe}-{hashlib.blake2b(canonical.encode(), digest_size=4).hexdigest()}"
        self.results: list[StepResult] = []
        self._products: Mapping[str, Manifest] = {}
        self._info: dict[str, Any] = {
            "run": self.id,
            "recipe": recipe,
            "status": "running",
            "holder": this_process(f"recipe {recipe}").model_dump(),
            "started": now(),
            "wanted": list(steps),
            "settings": dict(settings),
        }
        self._folder = failed_folder(root, self.id)
        write_layout(root)
        storage.remove(storage.join(self._folder, CHECKSUMS))  # of the attempt before
        storage.write_bytes(storage.join(self._folder, RECIPE), recipe_text.encode())
        self._write()

    def finish_step(self, result: StepResult, products: Mapping[str, Manifest]) -> None:
        """A step is finished. products: what the run has made so far -> the step that holds it, as of `record`."""
        self.results.append(result)
        self._products = products
        if not result.reused:
            self._write()

    def fail(self, error: BaseException, lines: str = "") -> RecordedRun:
        """Record that the run failed, or that it was stopped if the error is no `Exception`. lines: its events."""
        self._info["status"] = "failed" if isinstance(error, Exception) else "stopped"
        stopped = isinstance(error, KeyboardInterrupt) and not str(error)
        self._info["error"] = "stopped by its user" if stopped else masked(str(error)) or type(error).__name__
        info = self._write()
        if lines:
            storage.write_bytes(storage.join(self._folder, LINEAGE), lines.encode())
        paths = [storage.join(self._folder, name) for name in (RUN, RECIPE, LINEAGE)]
        paths += [manifests.path_of(self.root, result.step.folder) for result in self.results]
        digests = {_relative(self.root, path): storage.digest(path) for path in paths if storage.exists(path)}
        storage.write_json(storage.join(self._folder, CHECKSUMS), digests)
        return RecordedRun(self.root, self.id, info, tuple(result.manifest for result in self.results))

    def succeed(self) -> None:
        """Remove the record: the run is recorded as finished."""
        storage.remove(self._folder)
        storage.remove_empty(storage.join(self.root, FAILED))

    def _write(self) -> dict[str, Any]:
        done = {result.step.name for result in self.results}
        info = {
            **self._info,
            "step": next((name for name in self._info["wanted"] if name not in done), None),
            "finished": now(),
            **{product: step.key for product, step in self._products.items()},
            "steps": [_entry(result, None) for result in self.results],
        }
        storage.write_json(storage.join(self._folder, RUN), info)
        return info


def status_of(info: Mapping[str, Any]) -> Status:
    """The status of a run, from the content of its `run.json`."""
    status: Status = info.get("status", "finished")
    if status != "running":
        return status
    ended = Holder.model_validate(info["holder"]).has_ended()
    return "unknown" if ended is None else "killed" if ended else "running"


def failures(root: str, strict: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the content of `run.json` of each run that has not succeeded, in order of the ids, as `recorded`.

    `status_of` gives the status; `step` is the step that the run was at, `error` the message.
    """
    check_layout(root)
    yield from _infos(root, FAILED, _refuse if strict else None)


def _entry(result: StepResult, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A step as `run.json` names it. One that was reused keeps what was measured when it was made: reports compute
    rates from it."""
    entry: dict[str, Any] = {"folder": result.step.folder, "name": result.step.name, "key": result.step.key}
    if result.reused:
        kept = ("seconds", "core_seconds", "memory", "parts")
        return entry | ({name: before[name] for name in kept if name in before} if before else {"seconds": 0.0})
    entry["seconds"] = round(result.seconds, 3)
    if result.cost:
        entry |= {"core_seconds": round(result.cost.core_seconds, 3), "memory": result.cost.memory}
        if result.cost.parts:
            entry["parts"] = {name: round(seconds, 3) for name, seconds in result.cost.parts.items()}
    return entry


PACKAGES = ("pyarrow", "polars", "numpy", "numba", "tokenizers", "tiktoken", "fasttext-community", "ray", "prefect")
"""Packages whose versions a run records: those that compute its bytes, and those that run it."""


def environment() -> dict[str, str]:
    """With what a run is made: versions, machine, CPUs and memory. Nothing of it changes the bytes of a corpus."""
    import importlib.metadata
    import os
    import platform

    found = {"winnow": importlib.metadata.version("winnow-corpus"), "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    found["platform"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    found["cpus"] = str(os.cpu_count())
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    return found


def _writing(folder: str) -> AbstractContextManager[Lease]:
    """Let one process at a time change the files of a run: they are read and written again."""
    return hold(storage.join(folder, LEASE), "recording a run")


def _finished(root: str) -> str:
    """The time, or just after the last recorded run where the clock was set back: `latest` is the run recorded last."""
    last = max((str(info["finished"]) for _, info in recorded(root)), default="")
    if (time := now()) > last:
        return time
    after = datetime.datetime.fromisoformat(last) + datetime.timedelta(milliseconds=1)
    return after.isoformat(timespec="milliseconds")


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def record_scores(run: RecordedRun, scores: Sequence[Mapping[str, Any]]) -> None:
    """Add a checkpoint's scores to the run whose packs it was trained on.

    A later score replaces an earlier one of the same evaluation (the benchmark asked in the same way), and one that was
    recorded before evaluations were stored.
    """
    with _writing(run.folder):
        stored = {(line["benchmark"], line["checkpoint"]) for line in scores if line.get("evaluation")}
        former = [
            line
            for line in read_scores(run)
            if line.get("evaluation") or (line["benchmark"], line["checkpoint"]) not in stored
        ]
        lines = {
            (line["benchmark"], line["checkpoint"], line.get("evaluation")): dict(line) for line in [*former, *scores]
        }
        storage.write_json(storage.join(run.folder, EVALUATIONS), list(lines.values()))
        _update_checksum(run, EVALUATIONS)


def read_scores(run: RecordedRun) -> list[dict[str, Any]]:
    """The scores of checkpoints that were trained on this run."""
    path = storage.join(run.folder, EVALUATIONS)
    return _read_lines(path, "remove it, and evaluate again")


def _read_lines(path: str, mend: str) -> list[dict[str, Any]]:
    """A list of objects; none where there is no file. Raises: Damaged: for anything else."""
    lines = storage.read_json(path, mend) if storage.exists(path) else []
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise storage.damaged(path, "no list of objects", mend)
    return lines


def record_calibration(run: RecordedRun, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add to the run how scores agree with ratings: a line for each score, with the digest `ratings` of the ratings.

    A later line replaces an earlier one of the same score and ratings.
    """
    with _writing(run.folder):
        known = {(line["ratings"], line["score"]): dict(line) for line in [*read_calibration(run), *lines]}
        storage.write_json(storage.join(run.folder, CALIBRATION), list(known.values()))
        _update_checksum(run, CALIBRATION)


def withdraw_calibration(run: RecordedRun, scores: Collection[str], files: Collection[str]) -> list[dict[str, Any]]:
    """Remove recorded agreement from the run; returns the lines removed.

    scores, files: names of scores, and of files of ratings without their folders. None of them: whatever the name.
    """
    with _writing(run.folder):
        lines = read_calibration(run)
        removed = [
            line
            for line in lines
            if (not scores or line["score"] in scores) and (not files or not set(files).isdisjoint(line["files"]))
        ]
        left = [line for line in lines if line not in removed]
        path = storage.join(run.folder, CALIBRATION)
        if left:
            storage.write_json(path, left)
        elif lines:
            storage.remove(path)
        _update_checksum(run, CALIBRATION)
    return removed


def read_calibration(run: RecordedRun) -> list[dict[str, Any]]:
    """How the scores of the run agree with people's ratings."""
    path = storage.join(run.folder, CALIBRATION)
    return _read_lines(path, "remove it, and calibrate again")


def record_report(run: RecordedRun, page: str) -> str:
    """Write `report.html` into the run's folder, and its digest; returns its path."""
    path = storage.join(run.folder, REPORT)
    with _writing(run.folder):
        storage.write_bytes(path, page.encode())
        if storage.exists(storage.join(run.folder, CHECKSUMS)):
            _update_checksum(run, REPORT)
    return path


def _write_checksums(root: str, run: str, results: Sequence[StepResult], lineage_written: bool) -> None:
    """Write `checksums.json`: path relative to the root -> digest, of the run's files and its steps' manifests.

    A file that was not written now keeps the digest recorded before, so that recording a run again does not accept a
    file that was changed or lost in between.
    """
    folder = run_folder(root, run)
    path = storage.join(folder, CHECKSUMS)
    recorded = _read_digests(path)
    written = {storage.join(folder, RUN): True, storage.join(folder, RECIPE): True}
    written |= {storage.join(folder, LINEAGE): lineage_written, storage.join(folder, EVALUATIONS): False}
    written |= {storage.join(folder, CALIBRATION): False, storage.join(folder, REPORT): False}
    written |= {manifests.path_of(root, result.step.folder): not result.reused for result in results}
    digests = {}
    for file, is_new in written.items():
        name = _relative(root, file)
        if name in recorded and not is_new:
            digests[name] = recorded[name]
        elif storage.exists(file):
            digests[name] = storage.digest(file)
    storage.write_json(path, digests)


def _update_checksum(run: RecordedRun, name: str) -> None:
    """Record the digest of one of the run's files after it was written or removed; the other entries stay."""
    path = storage.join(run.folder, CHECKSUMS)
    digests = _read_digests(path)
    file = storage.join(run.folder, name)
    digests.pop(_relative(run.root, file), None)
    if storage.exists(file):
        digests[_relative(run.root, file)] = storage.digest(file)
    storage.write_json(path, digests)


def _read_digests(path: str) -> dict[str, str]:
    """The digests in a `checksums.json`; none where it is missing or damaged: `verify` tells of it until it is written
    again."""
    with contextlib.suppress(FileNotFoundError, Damaged):
        digests = storage.read_json(path)
        if isinstance(digests, dict):
            return {name: digest for name, digest in digests.items() if _is_digest(digest)}
    return {}


def _relative(root: str, path: str) -> str:
    return path.removeprefix(root).lstrip("/")


def open_run(root: str, name: str, failed: bool = False, check: bool = True) -> RecordedRun:
    """A recorded run. `name` may be a unique beginning of its id, or `latest`: the last that is no arm of an ablation.

    failed: whether it may be a run that has not succeeded; `latest` never is. check: whether `run.json` and the
    manifests must have the digests of `checksums.json`; `verify` compares them itself and tells all that changed.

    Raises: RunError: naming the nearest run, if there is none of that name or several begin with it. Damaged: naming
        the file, if `run.json` or a manifest is not as it was written.
    """
    check_layout(root)
    folders = storage.folders(storage.join(root, "runs"))
    name = name.rstrip("/").rsplit("/", 1)[-1]
    if name != "latest" and not any(run.startswith(name) for run in folders):
        found = _open_failed(root, name, failed, check)
        if found is not None:
            return found
    if not folders:
        raise RunError(
            f"{root}: no runs here; `winnow build RECIPE --root {root}` makes one, and `--root` names another place"
        )
    exact = name in folders and storage.exists(storage.join(root, "runs", name, RUN))
    damaged: list[Damaged] = []
    infos = {name: read_info(root, "runs", name, check)} if exact else dict(_infos(root, "runs", damaged.append, check))
    if damaged and not infos:
        raise damaged[0]
    for error in damaged:
        _leave_out(error)
    if name == "latest" and infos:
        name = max(infos, key=lambda run: (not infos[run].get("arm"), str(infos[run]["finished"])))
    matches = [name] if name in infos else [run for run in infos if run.startswith(name)]
    if len(matches) != 1:
        problem = "several runs begin with this" if matches else "no such run"
        raise RunError(f"{name}: {problem} in {root}; {nearest(name, matches or folders)}")
    return _opened(root, "runs", matches[0], infos[matches[0]], check)


def _opened(root: str, folder: str, run: str, info: dict[str, Any], check: bool) -> RecordedRun:
    """The run. folder: `runs` or `failed`. check: whether its manifests must have the digests recorded."""
    digests = manifest_digests(root, folder, run, info) if check else {}
    folders = [step["folder"] for step in info["steps"]]
    return RecordedRun(root, run, info, tuple(manifests.require(root, one, run, digests.get(one)) for one in folders))


def manifest_digests(root: str, folder: str, run: str, info: Mapping[str, Any]) -> dict[str, str]:
    """Folder of a step -> digest of its manifest, as a run recorded them; nothing of a run that goes on or was killed.
    folder: `runs` or `failed`.

    Raises: Damaged: if `checksums.json` is damaged, or lacks a step.
    """
    recorded = _recorded_digests(root, folder, run)
    names = {step["folder"]: _relative(root, manifests.path_of(root, step["folder"])) for step in info["steps"]}
    if recorded and (left_out := [name for name in names.values() if name not in recorded]):
        path = storage.join(root, folder, run, CHECKSUMS)
        raise storage.damaged(path, f"it does not list {left_out[0]}", AGAIN)
    return {step: recorded[name] for step, name in names.items()} if recorded else {}


def _recorded_digests(root: str, folder: str, run: str) -> dict[str, str]:
    """Path of a file of a run, relative to the root -> its digest; none where no `checksums.json` was written yet.

    Raises: Damaged: if it is damaged.
    """
    path = storage.join(root, folder, run, CHECKSUMS)
    try:
        digests = storage.read_json(path, AGAIN)
    except FileNotFoundError:
        return {}
    own = _relative(root, storage.join(root, folder, run, RUN))
    if not isinstance(digests, dict) or not all(map(_is_digest, digests.values())):
        raise storage.damaged(path, "not a list of digests", AGAIN)
    if own not in digests:
        raise storage.damaged(path, f"it does not list {own}", AGAIN)
    return digests


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None


def read_recipe(run: RecordedRun) -> str | None:
    """The recipe of a run, as its user wrote it; None where the file is gone.

    Raises: Damaged: if it is not as it was written.
    """
    path = storage.join(run.folder, RECIPE)
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        return None
    recorded = _recorded_digests(run.root, "runs" if run.status == "finished" else FAILED, run.id)
    digest = recorded.get(_relative(run.root, path))
    if digest and storage.digest_of(data) != digest:
        raise storage.damaged(path, storage.NOT_RECORDED, AGAIN)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise storage.damaged(path, f"not UTF-8 at byte {error.start}", AGAIN) from error


def recorded(root: str, strict: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the content of `run.json` of each recorded run below a root, in order of the ids. Damaged ones are
    left out, with a warning.

    strict: whether a damaged one is an error instead, for what must know all runs.

    Raises: as `check_layout`. Damaged: as `read_info`, if `strict`.
    """
    check_layout(root)
    yield from _infos(root, "runs", _refuse if strict else None)


def _open_failed(root: str, name: str, failed: bool, check: bool) -> RecordedRun | None:
    """The run that has not succeeded and whose id begins with `name`; None where there is none.

    Raises: RunError: if such a run is not asked for, or goes on.
    """
    matches = [(run, info) for run, info in failures(root) if run.startswith(name)]
    if len(matches) != 1:
        return None
    run, info = matches[0]
    status = status_of(info)
    if status == "running":
        raise RunError(f"run {run} is still going: {Holder.model_validate(info['holder'])}")
    if not failed:
        raise RunError(
            f"run {run} has not finished ({status}, {len(info['steps'])} of {len(info['wanted'])} steps); "
            f"`winnow report {run}` shows how far it came, and building its recipe again carries on"
        )
    return _opened(root, FAILED, run, info, check)


def _infos(
    root: str, folder: str, on_damage: Callable[[Damaged], None] | None = None, check: bool = True
) -> Iterator[tuple[str, dict[str, Any]]]:
    for run in storage.folders(storage.join(root, folder)):
        if storage.exists(storage.join(root, folder, run, RUN)):
            try:
                yield run, read_info(root, folder, run, check)
            except Damaged as error:
                (on_damage or _leave_out)(error)


def _refuse(error: Damaged) -> None:
    raise error


def _leave_out(error: Damaged) -> None:
    warnings.warn(f"left out: {error}", DamageWarning, stacklevel=3)


class _Step(BaseModel):
    """A step in a `run.json`."""

    folder: str
    name: str
    key: str


class _Info(BaseModel):
    """What every `run.json` has. Further keys are allowed."""

    run: str
    recipe: str
    steps: list[_Step]
    settings: dict[str, Any]
    finished: str


class _FinishedInfo(_Info):
    corpus: str


class _FailedInfo(_Info):
    status: Status
    holder: Holder
    wanted: list[str]


def read_info(root: str, folder: str, run: str, check: bool = True) -> dict[str, Any]:
    """The content of the `run.json` of a run that has one. folder: `runs` or `failed`. check: whether it must have the
    digest recorded.

    Raises: Damaged: if it, or `checksums.json`, is damaged.
    """
    path = storage.join(root, folder, run, RUN)
    for tries_left in range(WRITTEN_TRIES, -1, -1):
        try:
            digest = _recorded_digests(root, folder, run).get(_relative(root, path)) if check else None
            info = storage.read_json(path, AGAIN, digest)
            break
        except Damaged:
            if not tries_left or not storage.files(storage.join(root, folder, run, LEASE)):
                raise
            time.sleep(0.1)  # another process is recording the run, and has not written both files yet
    storage.read_document(path, _FinishedInfo if folder == "runs" else _FailedInfo, AGAIN, {} if info is None else info)
    return cast(dict[str, Any], info)


def run_that_made(root: str, packs: str) -> RecordedRun | None:
    """The recorded run whose packs have this step key; None where there is none below `root`."""
    for name, info in recorded(root):
        if info.get("packs") == packs:
            return open_run(root, name)
    return None


def step_of_run(root: str, run: str, step: str) -> Manifest | None:
    """The step of that name of a run given by its whole id; None where the run has no such step.

    Raises: RunError: if there is no such run.
    """
    path = storage.join(root, "runs", run, RUN)
    if not storage.exists(path):
        runs = storage.folders(storage.join(root, "runs"))
        raise RunError(f"{run}: no such run in {root}; {nearest(run, runs) if runs else 'it has none'}")
    folders = [entry["folder"] for entry in read_info(root, "runs", run)["steps"] if entry["name"] == step]
    return manifests.load(root, folders[0]) if folders else None

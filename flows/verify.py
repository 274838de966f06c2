"""Is everything below a root what was written? A run and what was made from it, or all that lies there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import time
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from flows.console import current_console
from flows.execute import absolute
from pipelines.audit.contents import content_problems
from pipelines.audit.verify import raise_problems, run_problems, step_problems
from pipelines.errors import CheckFailed, RunError, WinnowError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.checksums import CHECKSUMS, checksum_problems
from pipelines.ledger.layout import LAYOUT, LAYOUT_FILE
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import FAILED, RecordedRun, failed_folder, open_run, read_scores
from pipelines.ledger.score_tables import SCORES
from training.folders import ABLATIONS, ablation_texts, all_trainings, checkpoints
from training.inference.recorded import COMPLETIONS
from training.verify import evaluation_folders, training_problems, trainings_of

MOVE_SECONDS = 0.1


class VerifyAnswer(BaseModel):
    """What was verified. `winnow verify --json` prints it.

    runs: their ids. steps: of these runs, and further ones made from them. files: each with its digest. bytes: read
    for digests. rows: of the runs' corpora. trainings, checkpoints, evaluations: their numbers. deep: what `--deep`
    checked, and what it could not.
    """

    model_config = ConfigDict(frozen=True)

    runs: tuple[str, ...]
    steps: int
    files: int
    bytes: int
    rows: int
    trainings: int
    checkpoints: int
    evaluations: int
    deep: tuple[str, ...] = ()


def verify(
    run: str = "latest", root: str = "./winnow-data", deep: bool = False, everything: bool = False
) -> VerifyAnswer:
    """Verify a run and what was made from it: indexes, trainings on its packs, evaluations of their checkpoints.

    everything: verify all runs and all else below the root instead. deep: also look for duplicates and leaks that
    should be gone, and make random shards again (`pipelines.audit.deep`).

    Raises: RunError: if there is no such run. CheckFailed: naming every file with a problem, and what to do.
    """
    root = absolute(root)
    return _Verification(root).run(run, deep, everything)


class _Verification:
    """One verification: what was checked so far, and the progress shown."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.console = current_console()
        self.files: list[str] = []
        self.steps: set[str] = set()
        self.bytes = self.total = 0
        self.begun = self.shown = time.monotonic()

    def run(self, name: str, deep: bool, everything: bool) -> VerifyAnswer:
        problems: list[str] = []
        names = storage.folders(storage.join(self.root, "runs")) if everything else [name]
        if not names and not storage.folders(self.root):
            raise RunError(f"{self.root}: nothing here to verify; `winnow build RECIPE --root {self.root}` makes a run")
        runs = []
        for one in names:
            try:
                runs.append(open_run(self.root, one, check=False))
            except CheckFailed as error:
                problems.append(str(error))
            except WinnowError as error:
                if not everything:
                    raise
                problems.append(f"run {one}: {error}")
        derived = list(self._derived(runs, everything, problems))
        folders = self._trainings(runs, everything)
        evaluated = self._evaluations(runs, everything)
        self.total = sum(file.bytes for one in runs for step in one.steps for file in step.all_files)
        self.total += sum(file.bytes for step in derived for file in step.all_files)
        self.total += sum(
            sum(storage.sizes(folder).values()) for training in folders for folder in checkpoints(training)
        )
        with self.console:
            for opened in runs:
                problems += run_problems(opened, self.files, self._on_bytes, self.steps)
            for step in derived:
                problems += self._derived_problems(step)
            for training in folders:
                problems += training_problems(training, self.files, self._on_bytes)
            for folder in evaluated:
                problems += self._sealed(folder, "remove the folder and evaluate again")
            if everything:
                problems += self._others()
            raise_problems(problems)
            said: list[str] = []
            if deep:
                from pipelines.audit.deep import deep_problems

                for opened in runs:
                    problems += deep_problems(opened, said, self.console.watch)
                raise_problems(problems)
        return VerifyAnswer(
            runs=tuple(one.id for one in runs),
            steps=len(self.steps),
            files=len(set(self.files)),
            bytes=self.bytes,
            rows=sum(one.records.rows_kept or 0 for one in runs),
            trainings=len(folders),
            checkpoints=sum(len(checkpoints(training)) for training in folders),
            evaluations=len(evaluated),
            deep=tuple(said),
        )

    def _on_bytes(self, count: int) -> None:
        self.bytes += count
        now = time.monotonic()
        if now > self.shown + MOVE_SECONDS:
            self.shown = now
            rate = f"{self.bytes / 1e6 / (now - self.begun):,.0f} MB/s"
            self.console.move_bar("verify: MB", self.bytes >> 20, max(self.total, self.bytes) >> 20, rate)

    def _derived(self, runs: list[RecordedRun], everything: bool, problems: list[str]) -> Iterator[Manifest]:
        """Finished steps that no run names: those that read a step of these runs, or all."""
        named = {step.folder for run in runs for step in run.steps}
        keys = {step.key for run in runs for step in run.steps}
        for folder in storage.folders(storage.join(self.root, "steps")):
            if folder in named:
                continue
            try:
                step = manifests.load(self.root, folder)
            except CheckFailed as error:
                problems.append(str(error))
                continue
            if step is not None and (everything or keys & set(step.parents)):
                yield step

    def _derived_problems(self, step: Manifest) -> Iterator[str]:
        self.steps.add(step.folder)
        mend = f"remove {storage.join(self.root, 'steps', step.folder)}; it is made again when it is needed"
        path = manifests.path_of(self.root, step.folder)
        self.files.append(path)
        if storage.join(self.root, "steps", step.folder) != posixpath.dirname(path) or not manifests.has_own_key(step):
            yield f"{path}: its parameters are not those of its key; {mend}"
        problems = list(step_problems(self.root, step, mend, self.files, self._on_bytes))
        yield from problems or content_problems(step, None, mend)

    def _trainings(self, runs: list[RecordedRun], everything: bool) -> list[str]:
        if everything:
            return all_trainings(self.root)
        packs = [packs for run in runs if (packs := run.product("packs")) is not None]
        return sorted({training for one in packs for training in trainings_of(self.root, one.key)})

    def _evaluations(self, runs: list[RecordedRun], everything: bool) -> list[str]:
        if everything:
            return evaluation_folders(self.root)
        names = {
            posixpath.basename(str(line["evaluation"]))
            for run in runs
            for line in _scores(run)
            if line.get("evaluation")
        }
        return [folder for folder in evaluation_folders(self.root) if posixpath.basename(folder) in names]

    def _sealed(self, folder: str, mend: str) -> Iterator[str]:
        path = storage.join(folder, CHECKSUMS)
        if storage.exists(path):
            self.files.append(path)
            with contextlib.suppress(CheckFailed):  # told below
                self.files += [storage.join(folder, name) for name in storage.read_json(path)]
        yield from checksum_problems(folder, mend)

    def _others(self) -> Iterator[str]:
        """What belongs to no run: layout, scores, completions, ablations, failed runs, forgotten rows, own recipes."""
        layout = storage.join(self.root, LAYOUT_FILE)
        if storage.exists(layout):
            self.files.append(layout)
            if storage.read_bytes(layout) != storage.json_text({"layout": LAYOUT}).encode():
                yield f"{layout}: changed since it was written; remove it, and build again"
        mends = {
            SCORES: "remove the folder and score again",
            ABLATIONS: "remove the folder and run the ablation again",
            "forgotten": "restore it from a backup: without it, forgotten rows may be ingested again",
        }
        for name, mend in mends.items():
            parent = storage.join(self.root, name)
            for folder in storage.folders(parent):
                yield from self._sealed(storage.join(parent, folder), mend)
        for run in storage.folders(storage.join(self.root, FAILED)):
            yield from self._failed(failed_folder(self.root, run))
        for model in storage.folders(storage.join(self.root, COMPLETIONS)):
            folder = storage.join(self.root, COMPLETIONS, model)
            for name in storage.files(folder):
                yield from self._named_by_digest(
                    storage.join(folder, name), ".jsonl", 12, "remove it: its requests are sent again"
                )
        for name in storage.files(storage.join(self.root, "recipes")):
            path = storage.join(self.root, "recipes", name)
            if name.endswith(".yaml"):
                yield from self._named_by_digest(path, ".yaml", 4, "build the files again, which writes it")
        for path in ablation_texts(self.root):
            self.files.append(path)
            try:
                rows = storage.read_parquet(path).to_pylist()
                digest = hashlib.blake2b(json.dumps(rows, ensure_ascii=False).encode(), digest_size=8).hexdigest()
            except (WinnowError, OSError, ValueError):
                digest = ""
            if f"{digest}.parquet" != posixpath.basename(path):
                yield f"{path}: changed since it was written; remove it and run the ablation again"

    def _failed(self, folder: str) -> Iterator[str]:
        """A run that has not succeeded. Its checksums name files by their paths below the root."""
        path = storage.join(folder, CHECKSUMS)
        if not storage.exists(path):
            return  # it is running, or was killed
        self.files.append(path)
        try:
            digests = dict(storage.read_json(path))
        except (CheckFailed, ValueError, TypeError) as error:
            yield f"{path}: damaged ({error}); remove the folder"
            return
        for name in storage.files(folder):
            file = storage.join(folder, name)
            if name != CHECKSUMS:
                self.files.append(file)
                if storage.digest(file) != digests.get(file.removeprefix(self.root).lstrip("/")):
                    yield f"{file}: changed since it was written; remove the folder"

    def _named_by_digest(self, path: str, suffix: str, size: int, mend: str) -> Iterator[str]:
        """A file whose name ends with the digest of its bytes."""
        self.files.append(path)
        digest = hashlib.blake2b(storage.read_bytes(path), digest_size=size).hexdigest()
        if not path.removesuffix(suffix).endswith(digest):
            yield f"{path}: changed since it was written; {mend}"


def _scores(run: RecordedRun) -> list[dict[str, object]]:
    try:
        return read_scores(run)
    except CheckFailed:
        return []  # told by `run_problems`

"""How are rows forgotten? They are found in everything below a root; a new run is built without them, and compared.

`find` lists. `forget` with `apply` writes a tombstone, builds each run that holds such a row again, proves that nothing
else changed, and writes a receipt. It removes nothing: `winnow gc` removes the runs that a receipt says are replaced.

A kill at any moment leaves a root on which the same command carries on: a tombstone only makes ingestion drop more, the
builds reuse finished steps, and until the receipt is there the former runs count as in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from flows.console import Console, current_console, quantity
from flows.execute import EngineName, absolute, execute_recipe
from pipelines.audit.forget import (
    Proof,
    RunPlaces,
    Selection,
    containing,
    first_step,
    forgotten_before,
    forgotten_rows,
    places,
    prove,
    source_files,
    texts_of,
)
from pipelines.audit.rows import RowIndex
from pipelines.audit.verify import raise_problems
from pipelines.errors import NoRowLeft, RunError, WinnowError, nearest
from pipelines.ledger import storage, tombstones
from pipelines.ledger.checksums import write_checksums
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import (
    CHECKSUMS,
    RECIPE,
    RecordedRun,
    failures,
    open_run,
    read_recipe,
    read_scores,
    recorded,
    status_of,
)
from pipelines.ledger.score_tables import SCORES
from pipelines.ledger.tombstones import RECEIPT, Tombstones
from pipelines.recipe import Recipe
from training.folders import ablation_texts, trainings
from training.inference.recorded import COMPLETIONS
from training.row_use import RowUse, trainings_that_read
from training.verify import run_keys_of

QUOTED_CHARS = 40
"""A text from which on a recorded completion that contains it is taken to be about its row."""


class ForgetAnswer(BaseModel):
    """What is, or was, forgotten. `winnow forget --json` prints it.

    tombstone: its id. rows: digests of texts. sources: names. runs: every run that holds a row, with the files.
    trainings: what those on such packs have done with the rows, and those that started from a model that saw one.
    unknown_trainings: folders of others whose packs, or those of what they started from, are not below the root (any
    more), so that they may have seen the rows. evaluations: of checkpoints that saw one. scores:
    tables of scores with the id of one. held_out: tables of texts by which ablations judge, with one; `gc` removes
    them. completions: files with recorded requests that quote one. unfinished: steps that a build has left unfinished,
    which may hold one.
    proofs, receipt: of `--apply`.
    """

    model_config = ConfigDict(frozen=True)

    tombstone: str
    rows: int
    sources: tuple[str, ...]
    runs: tuple[RunPlaces, ...]
    trainings: tuple[RowUse, ...]
    unknown_trainings: tuple[str, ...]
    evaluations: tuple[str, ...]
    scores: tuple[str, ...]
    held_out: tuple[str, ...]
    completions: tuple[str, ...]
    unfinished: tuple[str, ...]
    proofs: tuple[Proof, ...] = ()
    receipt: str | None = None


class _Found(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    stones: Any
    answer: ForgetAnswer
    ids: dict[str, tuple[str, ...]]  # run -> ids of rows to be forgotten


def forget(
    selection: Selection,
    run: str = "latest",
    root: str = "./winnow-data",
    apply: bool = False,
    engine: EngineName = "local",
    workers: int | None = None,
) -> ForgetAnswer:
    """List everything that holds the selected rows; with `apply`, make new runs without them.

    run: whose ids the selection names.

    Raises: RunError: if there is no such row, source or run, or a run with such a row is still going. CheckFailed: if
    more changed than the rows that are forgotten.
    """
    root, console = absolute(root), current_console()
    found = _find(selection, run, root, console)
    return _apply(found, root, console, engine, workers) if apply else found.answer


# -------------------------------------------------------------------------------------------------------------- list


def _all_runs(root: str) -> Iterator[RecordedRun]:
    """The recorded runs, the one that was recorded first first; then those that have not succeeded."""
    for name, _ in sorted(recorded(root, strict=True), key=lambda entry: str(entry[1]["finished"])):
        yield open_run(root, name)
    for name, info in failures(root, strict=True):
        if status_of(info) == "running":
            raise RunError(f"run {name} is still going; wait for it, since it may hold such rows, and run this again")
        yield open_run(root, name, failed=True)


def _find(selection: Selection, run: str, root: str, console: Console) -> _Found:
    named = open_run(root, run, failed=True)
    replaced = replaced_runs(root)
    runs = [one for one in _all_runs(root) if not is_replaced(replaced, one.id, one.info)]
    stones = _stones(selection, named, runs)
    answers, ids, seen = [], {}, {}
    uses: list[RowUse] = []
    evaluations: list[str] = []
    texts: set[str] = set()
    with console:
        for one in runs:
            step = first_step(one)
            if step is None:
                continue
            if step.key not in seen:
                console.move_bar(f"rows of {one.id}", 0, 1)
                seen[step.key] = forgotten_rows(step, stones, selection.sources)
            if not seen[step.key]:
                continue
            ids[one.id] = tuple(sorted(seen[step.key]))
            total, done = sum(file.bytes for made in one.steps for file in made.all_files), [0]

            def on_file(size: int, done: list[int] = done, name: str = one.id, total: int = total) -> None:
                done[0] += size
                console.move_bar(f"files of {name}: MB", done[0] >> 20, max(total >> 20, 1))

            held = places(one, ids[one.id], on_file)
            answers.append(held)
            texts |= set(_some_texts(one, ids[one.id]))
            packs = one.product("packs")
            uses += trainings_that_read(root, packs.key, held.packs) if packs and held.packs else []
    saw = {checkpoint for use in uses for checkpoint in use.checkpoints}
    for one in runs if saw else ():  # a model that was fine-tuned has its scores in the run of its own packs
        scored = read_scores(one) if one.status == "finished" else []
        evaluations += [
            str(line["evaluation"]) for line in scored if line.get("checkpoint") in saw and line.get("evaluation")
        ]
    names = pa.array(sorted({id for found in ids.values() for id in found}), pa.string())
    known_packs = {str(one.info.get("packs")) for one in runs}
    saw_one = {use.training for use in uses if use.checkpoints}
    answer = ForgetAnswer(
        tombstone=stones.digest[:16],
        rows=len(stones.rows),
        sources=selection.sources,
        runs=tuple(answers),
        trainings=tuple(use for use in uses if use.read_at or use.to_read_at or use.started_from),
        unknown_trainings=tuple(
            training
            for training in trainings(root)
            if training not in saw_one and not known_packs.issuperset(run_keys_of(training))
        ),
        evaluations=tuple(dict.fromkeys(evaluations)),
        scores=tuple(_scored(root, names)),
        held_out=tuple(_held_out(root, names)),
        completions=tuple(_quoting(root, texts)),
        unfinished=tuple(_unfinished(root)),
    )
    return _Found(stones=stones, answer=answer, ids=ids)


def _stones(selection: Selection, named: RecordedRun, runs: list[RecordedRun]) -> Tombstones:
    """What the selection names. Raises: RunError: if a row or a source of it is nowhere."""
    rows: set[bytes] = set()
    first = first_step(named)
    if selection.ids:
        # After a kill, the newest run may be one that drops them already.
        found = texts_of(first, selection.ids) | forgotten_before(first, selection.ids) if first is not None else {}
        for id in selection.ids:
            if id not in found:
                hint = RowIndex(named, Run(named.root, LocalEngine())).describe_unknown(id)
                raise RunError(f"{id}: no such row in run {named.id}; {hint}")
        rows |= set(found.values())
    steps = {step.key: step for run in runs if (step := first_step(run)) is not None}
    for text in selection.texts:
        if not text.strip():
            raise WinnowError("--text: the text is empty")
        held = {digest for step in steps.values() for digest in containing(step, (text,))}
        if not held:
            raise RunError(f"--text {text!r}: no row of a run below {named.root} contains it")
        rows |= held
    known = {str(source["name"]) for step in steps.values() for source in step.parameters["sources"]}
    for name in selection.sources:
        if name not in known:
            raise RunError(f"--source {name}: no run below {named.root} has such a source; {nearest(name, known)}")
    files = [source_files(step, selection.sources) for step in steps.values()]
    names = frozenset(map(tombstones.name_digest, selection.sources))
    return Tombstones(frozenset(rows), names, frozenset[str]().union(*files) if selection.sources else frozenset())


def _some_texts(run: RecordedRun, ids: tuple[str, ...]) -> Iterator[str]:
    """The long instructions and responses of rows, by which completions are searched."""
    first = first_step(run)
    wanted = pa.array(ids, pa.string())
    for file in (*first.shards, *first.dropped) if first and any(_completion_files(run.root)) else ():
        rows = storage.read_parquet(file.path, ["id", "instruction", "response"])
        for row in rows.filter(pc.is_in(rows["id"], value_set=wanted)).to_pylist():
            yield from (row[name] for name in ("instruction", "response") if len(row[name]) >= QUOTED_CHARS)


def _scored(root: str, ids: pa.Array) -> Iterator[str]:
    """The tables of scores, finished or not, that have one of these ids."""
    for name in storage.folders(storage.join(root, SCORES)):
        folder = storage.join(root, SCORES, name)
        files = [path for path in storage.files_below(folder) if path.endswith(".parquet")]
        if any(_names(storage.join(folder, path), ids) for path in files):
            yield storage.join(SCORES, name)


def _held_out(root: str, ids: pa.Array) -> Iterator[str]:
    """The tables of texts of ablations that have one of these ids."""
    for path in ablation_texts(root):
        if _names(path, ids):
            yield path.removeprefix(root).lstrip("/")


def _names(path: str, ids: pa.Array) -> bool:
    """Whether a table has a row with one of these ids."""
    if not len(ids) or "id" not in storage.columns(path):
        return False
    return bool(pc.any(pc.is_in(storage.read_parquet(path, ["id"])["id"], value_set=ids)).as_py())


def _completion_files(root: str) -> Iterator[str]:
    for model in storage.folders(storage.join(root, COMPLETIONS)):
        folder = storage.join(root, COMPLETIONS, model)
        yield from (storage.join(folder, name) for name in storage.files(folder))


def _quoting(root: str, texts: set[str]) -> Iterator[str]:
    """The files of completions in which one of the texts is quoted."""
    quoted = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts]
    for path in _completion_files(root) if quoted else ():
        content = storage.read_bytes(path)
        if any(text in content for text in quoted):
            yield path.removeprefix(root).lstrip("/")


def _unfinished(root: str) -> Iterator[str]:
    """The folders of steps without a manifest."""
    folder = storage.join(root, "steps")
    for name in storage.folders(folder):
        if not storage.exists(storage.join(folder, name, "manifest.json")):
            yield name


# ------------------------------------------------------------------------------------------------------------- apply


def receipts(root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folder and the content of each receipt below a root."""
    folder = storage.join(root, tombstones.FOLDER)
    for name in storage.folders(folder):
        path = storage.join(folder, name, RECEIPT)
        if storage.exists(path):
            yield storage.join(folder, name), storage.read_json(path)


def replaced_runs(root: str) -> dict[str, dict[str, Any]]:
    """Run -> what a receipt says of it, of the runs that `winnow forget` replaced and `winnow gc` may remove."""
    return {run["run"]: run for _, receipt in receipts(root) for run in receipt["replaced"]}


def is_replaced(replaced: dict[str, dict[str, Any]], run: str, info: Mapping[str, Any]) -> bool:
    """Whether a run is the one that a receipt says is replaced. replaced: as `replaced_runs`. info: its `run.json`.

    A run that fails has the id of an earlier failure of the same recipe, but not its steps.
    """
    return run in replaced and {step["folder"] for step in info["steps"]} <= set(replaced[run]["steps"])


def _apply(found: _Found, root: str, console: Console, engine: EngineName, workers: int | None) -> ForgetAnswer:
    answer = found.answer
    tombstones.write(root, found.stones)
    proofs: list[Proof] = []
    replaced: list[dict[str, Any]] = []
    new_names: dict[str, str | None] = {}
    problems: list[str] = []
    for held in answer.runs:
        if held.status != "finished":
            failed = open_run(root, held.run, failed=True)
            replaced.append(_record_of(failed, None))
            continue
        old = open_run(root, held.run)
        settings = dict(old.info["settings"])
        against = [new_names.get(name, name) for name in settings.get("against") or ()]
        settings["against"] = [name for name in against if name is not None]
        recipe = Recipe.model_validate(settings)
        text = read_recipe(old)
        if text is None:
            raise RunError(f"{storage.join(old.folder, RECIPE)}: missing; build the recipe again")
        console.print(f" building {held.run} without {quantity(len(held.rows), 'row')}")
        try:
            new = execute_recipe(recipe, text, root, engine, workers).run
        except NoRowLeft:
            console.print(f" no row is left of {held.run}, so no run replaces it")
            if (empty := _attempt_of(root, recipe)) is not None:
                with console:
                    proofs.append(prove(old, empty, found.ids[old.id], found.stones.rows, problems, lambda what: None))
            replaced.append(_record_of(old, None))
            new_names[old.id] = None
            continue
        new_names[old.id] = new.id
        if new.id == old.id:
            problems.append(f"run {old.id}: building it again gave the same run, which still holds the rows")
            continue
        with console:
            say = lambda what: console.move_bar(f"compare: {what}", 0, 1)  # noqa: E731
            proofs.append(prove(old, new, found.ids[old.id], found.stones.rows, problems, say))
        replaced.append(_record_of(old, new))
    if problems:
        console.print(" nothing is removed; the former runs stay, and the same command tries again")
    raise_problems(problems)
    folder = storage.join(root, tombstones.FOLDER, answer.tombstone)
    _write_receipt(folder, answer, replaced, proofs)
    return answer.model_copy(update={"proofs": tuple(proofs), "receipt": storage.join(folder, RECEIPT)})


def _attempt_of(root: str, recipe: Recipe) -> RecordedRun | None:
    """The record of the failed run of a recipe; None if it left none."""
    settings = recipe.model_dump(mode="json")
    name = next((name for name, info in failures(root) if info["settings"] == settings), None)
    return None if name is None else open_run(root, name, failed=True)


def _record_of(old: RecordedRun, new: RecordedRun | None) -> dict[str, Any]:
    """What the receipt keeps of a run that is replaced."""
    path = storage.join(old.folder, CHECKSUMS)
    return {
        "run": old.id,
        "status": old.status,
        "by": new.id if new else None,
        "checksums": storage.digest(path) if storage.exists(path) else None,
        "steps": [step.folder for step in old.steps],
        "packs": old.info.get("packs"),
    }


def _write_receipt(folder: str, answer: ForgetAnswer, replaced: list[dict[str, Any]], proofs: list[Proof]) -> None:
    """Write the receipt: ids, paths and digests, and no text. What an earlier one says was replaced stays in it."""
    path = storage.join(folder, RECEIPT)
    before = storage.read_json(path) if storage.exists(path) else {"replaced": [], "proofs": [], "removed": []}
    names = {run["run"] for run in replaced}
    value = {
        "format": 1,
        "tombstone": answer.tombstone,
        "rows": answer.rows,
        "sources": list(answer.sources),
        "held": [held.model_dump(mode="json", exclude={"packs"}) for held in answer.runs],
        "replaced": [*(run for run in before["replaced"] if run["run"] not in names), *replaced],
        "proofs": [*before["proofs"], *(proof.model_dump(mode="json") for proof in proofs)],
        "checkpoints_that_saw_it": [checkpoint for use in answer.trainings for checkpoint in use.checkpoints],
        "trainings": [use.training for use in answer.trainings],
        "trainings_that_may_have_seen_it": list(answer.unknown_trainings),
        "evaluations": list(answer.evaluations),
        "scores": list(answer.scores),
        "held_out": list(answer.held_out),
        "completions": list(answer.completions),
        "removed": before["removed"],
    }
    storage.write_json(path, value)
    write_checksums(folder)

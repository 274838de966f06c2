"""Do checkpoints differ by more than chance? Their stored evaluations, benchmark by benchmark and item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from flows.console import current_console
from pipelines.errors import RunError, WinnowError, nearest
from pipelines.ledger import storage
from training.evaluation.compare import SAME, VARIABLE, Comparison, Evaluation, adjusted, compare
from training.evaluation.store import EVALUATIONS, ITEMS, SETTINGS, Settings, evaluations, read_items, read_settings
from training.folders import find_checkpoint


class CompareAnswer(BaseModel):
    """Comparisons of each further evaluation or checkpoint with the first. `winnow compare --json` prints it.

    notes: what was chosen or left out. picture: path of the picture, null without `--out`.
    """

    model_config = ConfigDict(frozen=True)

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    picture: str | None


class _Stored(NamedTuple):
    """An evaluation folder that is complete, and the time of its items."""

    folder: str
    settings: Settings
    modified: float


def compare_evaluations(
    targets: Sequence[str],
    benchmarks: Sequence[str] = (),
    root: str = "./winnow-data",
    scorer: str | None = None,
    common: bool = False,
    rows: int = 0,
    out: str | None = None,
) -> CompareAnswer:
    """Compare each further target with the first.

    targets: evaluation folders; or checkpoint folders, `latest`, or names of models as `winnow evaluate` prints them,
    which are compared on all benchmarks that both were evaluated on. benchmarks: only these. out: path of a picture.
    The other arguments are those of `training.evaluation.compare.compare`.

    Raises: WinnowError: if a target has no evaluations, or none that can be compared with those of the first.
    """
    if len(targets) < 2:
        raise WinnowError("name two evaluations or checkpoints to compare, such as `winnow compare latest FOLDER`")
    stored = [_evaluations_of(target, root) for target in targets]
    names = {one.settings.benchmark for each in stored for one in each}
    for name in benchmarks:
        if name not in names:
            raise WinnowError(f"--benchmark {name}: {nearest(name, names)}")
    notes: list[str] = []
    pairs: list[tuple[_Stored, _Stored]] = []
    for target, others in zip(targets[1:], stored[1:], strict=True):
        found = _pairs(stored[0], others, benchmarks, notes)
        if not found and {one.folder for one in stored[0]} == {one.folder for one in others}:
            raise RunError(f"{targets[0]} and {target}: are the same evaluations; name two different ones")
        if not found:
            raise RunError(
                f"{targets[0]} and {target}: have no evaluation of the same benchmark"
                f"{' among ' + ', '.join(benchmarks) if benchmarks else ''}; "
                f"run `winnow evaluate` for both with the same --benchmark"
            )
        pairs += found
    comparisons: list[Comparison] = []
    problems: list[WinnowError] = []
    with current_console() as console:
        for number, (one, other) in enumerate(pairs):
            console.move_bar("compare", number, len(pairs), one.settings.benchmark)
            try:
                comparisons.append(compare(_load(one), _load(other), scorer, common, rows))
            except WinnowError as error:
                problems.append(error)
    if not comparisons:
        raise problems[0]
    notes += [f"left out: {error}" for error in problems]
    comparisons = adjusted(comparisons)
    picture = None
    if out is not None:
        from flows.compare_picture import write_picture

        picture = write_picture(comparisons, out)
    return CompareAnswer(comparisons=tuple(comparisons), notes=tuple(notes), picture=picture)


def _evaluations_of(target: str, root: str) -> list[_Stored]:
    """The evaluations that a target means, the newest first."""
    if storage.exists(storage.join(target, SETTINGS)):
        return [_stored(target)]
    folder = storage.join(root, EVALUATIONS)
    every = [_stored(path) for path in evaluations(root) if storage.exists(storage.join(path, ITEMS))]
    models = {target, target.rstrip("/")}
    if target == "latest" or storage.is_folder(target):
        place = find_checkpoint(target, root)
        models |= {place, storage.absolute(place)}
        from training.folders import checkpoints

        if steps := checkpoints(place):
            models |= {steps[-1], storage.absolute(steps[-1])}
    chosen = [one for one in every if {one.settings.model, _absolute(one.settings.model)} & models]
    if not chosen:
        known = sorted({one.settings.model for one in every})
        raise RunError(
            f"{target}: no evaluation below {folder} is of this model"
            + (f"; evaluated: {', '.join(known)}" if known else "; `winnow evaluate` makes one")
        )
    return sorted(chosen, key=lambda one: -one.modified)


def _absolute(model: str) -> str:
    return storage.absolute(model) if storage.is_local(model) else model


def _stored(folder: str) -> _Stored:
    settings = read_settings(folder)
    path = storage.join(folder, ITEMS)
    return _Stored(folder, settings, storage.modified(path) if storage.exists(path) else 0.0)


def _pairs(
    first: Sequence[_Stored], second: Sequence[_Stored], benchmarks: Sequence[str], notes: list[str]
) -> list[tuple[_Stored, _Stored]]:
    """For each benchmark that both have, the two evaluations to compare: the newest that differ in the least settings.

    Appends a note if there was a choice.
    """
    pairs = []
    for benchmark in sorted({one.settings.benchmark for one in first}):
        ones, others = ([s for s in side if s.settings.benchmark == benchmark] for side in (first, second))
        if not others or (benchmarks and benchmark not in benchmarks):
            continue
        candidates = [(one, other) for one in ones for other in others if one.folder != other.folder]
        if not candidates:
            continue
        # min keeps the first of equals, and the newest are first.
        pair = min(
            candidates, key=lambda two: (_differences(two[0], two[1], SAME), _differences(two[0], two[1], VARIABLE))
        )
        if len(candidates) > 1:
            notes.append(
                f"{benchmark}: {len(ones)} and {len(others)} evaluations; "
                f"compared are {pair[0].folder} and {pair[1].folder}"
            )
        pairs.append(pair)
    return pairs


def _differences(one: _Stored, other: _Stored, names: Sequence[str]) -> int:
    return sum(getattr(one.settings, name) != getattr(other.settings, name) for name in names)


def _load(stored: _Stored) -> Evaluation:
    from training.evaluation.tasks import TASKS

    task = stored.settings.task
    return Evaluation(
        stored.folder, stored.settings, read_items(stored.folder), macro=task in TASKS and TASKS[task].macro
    )

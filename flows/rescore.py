"""What do the scorers of this version say of answers that were stored before? No model is needed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from flows.console import current_console
from pipelines.errors import RunError
from pipelines.ledger import storage
from training.evaluation.evaluate import How, judge_items, task_of
from training.evaluation.scores import Scores, scores_of
from training.evaluation.store import ITEMS, SCORES, AnswerStore, evaluations, read_items, read_settings
from training.evaluation.task import scorer_version


class Rescored(BaseModel):
    """An evaluation that was judged again. scorers, former_scorers: name -> version. former: the scores before."""

    model_config = ConfigDict(frozen=True)

    scores: Scores
    scorers: dict[str, str]
    former: Scores | None
    former_scorers: dict[str, str]


class RescoreAnswer(BaseModel):
    """Evaluations that were judged again. `winnow rescore --json` prints it."""

    model_config = ConfigDict(frozen=True)

    evaluations: tuple[Rescored, ...]


def rescore(names: tuple[str, ...] = (), root: str = "./winnow-data") -> RescoreAnswer:
    """Judge stored answers again, and write the judgements and scores.

    names: folders of evaluations, or names of benchmarks; by default all finished evaluations below the root.

    Raises: RunError: if there is no such evaluation, or one is not finished.
    """
    with current_console() as console:
        folders = find_evaluations(names, root)
        if not names:
            unfinished = [folder for folder in folders if not storage.exists(storage.join(folder, ITEMS))]
            for folder in unfinished:
                console.warn(f"{folder}: not finished, so not scored")
            folders = [folder for folder in folders if folder not in unfinished]
        return RescoreAnswer(evaluations=tuple(_rescore(folder) for folder in folders))


def find_evaluations(names: tuple[str, ...], root: str) -> list[str]:
    """The folders of the named evaluations: see `rescore`. Raises: RunError: if there is none."""
    stored = evaluations(root)
    if not names:
        if not stored:
            raise RunError(f"{root}: no evaluation; `winnow evaluate` makes one")
        return stored
    found: list[str] = []
    for name in names:
        place = [name] if storage.is_folder(name) else [f for f in stored if read_settings(f).benchmark == name]
        place = place or [folder for folder in stored if folder.rpartition("/")[2] == name]
        if not place:
            known = ", ".join(folder.rpartition("/")[2] for folder in stored) or "none"
            raise RunError(f"{name}: no such evaluation below {root}; there are: {known}")
        found += place
    return found


def _rescore(folder: str) -> Rescored:
    settings, items = read_settings(folder), read_items(folder)
    how = How.model_validate(
        settings.model_dump(include={"method", "condition", "shots", "max_tokens", "temperature", "seed"})
    )
    task = task_of(settings.task, how)
    scorers = {scorer.name: scorer_version(scorer) for scorer in task.scorers}
    console = current_console()
    judged = judge_items(items, task, lambda *done: console.move_bar(f"score: {settings.benchmark}", *done))
    path = storage.join(folder, SCORES)
    former = Scores.model_validate(storage.read_json(path)) if storage.exists(path) else None
    renewed = settings.model_copy(update={"scorers": scorers})
    scores = scores_of(judged, renewed, task, former.measured_on if former else None, folder)
    store = AnswerStore(folder)
    store.finish(judged, scores.model_dump(mode="json"))
    store.write_settings(renewed)
    store.seal()
    return Rescored(scores=scores, scorers=scorers, former=former, former_scorers=settings.scorers)

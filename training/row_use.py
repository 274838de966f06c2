"""Which training steps and checkpoints read a row? The packs that contain the row tell, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import RunError
from pipelines.ledger import storage
from training.folders import MANIFEST, all_trainings, checkpoints, step_of
from training.start import Start


class RowUse(BaseModel):
    """What one training has done with a row.

    training: folder. step: of the latest checkpoint. read_at: steps up to that checkpoint that read the row.
    to_read_at: later steps of the schedule that read it. checkpoints: folders of those whose weights have seen the row.
    started_from: folder of the checkpoint that had read the row before this training, which started from it or from a
    model that was made from it; left out if there is none.
    """

    model_config = ConfigDict(frozen=True)

    training: str
    step: int
    total_steps: int
    read_at: tuple[int, ...]
    to_read_at: tuple[int, ...]
    checkpoints: tuple[str, ...]
    started_from: str | None = Field(default=None, exclude_if=lambda value: value is None)


class _Config(BaseModel):
    batch_packs: int


class _State(BaseModel):
    """The part of a checkpoint.json (`training.checkpoint.TrainingState`) that is needed here."""

    run_key: str
    config: _Config
    total_steps: int
    step: int
    start: Start | None = None


def trainings_that_read(root: str, key: str, packs: Sequence[int]) -> list[RowUse]:
    """What the trainings below `root`, also those of ablations, have done with a row of the packs with step key `key`.

    Those are trainings on these packs, and those that started from a model that had read the row.

    packs: the packs that contain the row, as in `steps_of_packs`. A row is in one pack per epoch at most.

    Raises: RunError: if a checkpoint.json is damaged.
    """
    uses = []
    for training in all_trainings(root):
        folders = checkpoints(training)
        if not folders:
            continue
        state = _read(storage.join(folders[-1], MANIFEST))
        earlier = (
            next((one for one in state.start.chain() if _had_read(one, key, packs)), None) if state.start else None
        )
        if state.run_key == key or earlier:
            own = packs if state.run_key == key else ()
            uses.append(_row_use(training, state, folders, own, earlier))
    return uses


def _had_read(start: Start, key: str, packs: Sequence[int]) -> bool:
    """Whether the training of a checkpoint had read a row until then."""
    if start.run_key != key or start.step is None or start.batch_packs is None:
        return False
    return bool(steps_of_packs(start.batch_packs, start.step, packs))


def _row_use(
    training: str, state: _State, folders: Sequence[str], packs: Sequence[int], earlier: Start | None
) -> RowUse:
    steps = steps_of_packs(state.config.batch_packs, state.total_steps, packs)
    first = 0 if earlier else min(steps, default=state.total_steps + 1)
    return RowUse(
        training=training,
        step=state.step,
        total_steps=state.total_steps,
        read_at=tuple(step for step in steps if step <= state.step),
        to_read_at=tuple(step for step in steps if step > state.step),
        checkpoints=tuple(folder for folder in folders if step_of(folder) >= first),
        started_from=earlier.folder if earlier else None,
    )


def steps_of_packs(batch_packs: int, total_steps: int, packs: Sequence[int]) -> list[int]:
    """The steps (from 1, sorted, each once) of a training that read any of `packs`.

    packs: indices among the training packs in training order, from 0. A pack past the end of the schedule is read by no
    step. This is the inverse of `training.batches.packs_of_step`.
    """
    steps = {pack // batch_packs + 1 for pack in packs}
    return sorted(step for step in steps if step <= total_steps)


def _read(path: str) -> _State:
    try:
        return _State.model_validate(storage.read_json(path))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None

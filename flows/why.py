"""What became of a row, up to the training steps that read it and the checkpoints that have seen it?"""

from __future__ import annotations

from pipelines.audit.why import RowFate
from pipelines.audit.why import why as fate_of
from pipelines.ledger.runs import open_run
from training.row_use import RowUse, trainings_that_read


class WhyAnswer(RowFate):
    """The fate of a row. `winnow why --json` prints it.

    trainings: the trainings below the root on the packs of the run, if these contain the row for training.
    """

    trainings: tuple[RowUse, ...] = ()


def why(row: str, run: str = "latest", root: str = "./winnow-data") -> WhyAnswer:
    """The fate of a row in a run: its steps, its packs, and the trainings that read these.

    Raises: RunError: if there is no such run, or the run never had such a row.
    """
    recorded = open_run(root, run, failed=True)
    fate = fate_of(recorded, row)
    packs = recorded.product("packs")
    places = [place.pack for place in fate.history[-1].places or () if place.split == "train"]
    trainings = trainings_that_read(root, packs.key, places) if packs and places else []
    return WhyAnswer(**dict(fate), trainings=tuple(trainings))

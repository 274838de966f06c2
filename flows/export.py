"""How is a corpus or a checkpoint written in a format of another tool? This module dispatches by the format's name."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import WinnowError, nearest
from pipelines.ledger.runs import open_run

CHECKPOINT_FORMATS = ("transformers", "int4", "int4-linear")
"""The formats of a checkpoint: all are folders of transformers. Those of a corpus are in `pipelines.export.EXPORTS`."""


class ExportAnswer(BaseModel):
    """An export. `winnow export --json` prints it.

    files: relative to `folder`, sorted. rows: of text, or of all epochs. Both are left out for a checkpoint.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    files: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    rows: int | None = Field(default=None, exclude_if=lambda value: value is None)


def export(name: str, form: str, out: str, root: str = "./winnow-data") -> ExportAnswer:
    """Write the corpus of a run, or a checkpoint, into the new folder `out`.

    name: a run's id, or a checkpoint for one of CHECKPOINT_FORMATS; `latest` for the newest. form: a name in
    `pipelines.export.EXPORTS`, or one of CHECKPOINT_FORMATS: `transformers` for float32; `int4` for four bits, which
    Winnow reads; `int4-linear` for four bits with the embedding in bf16, which transformers reads too.

    Raises: WinnowError: if there is no such run, checkpoint or format, or `out` is in use. CheckFailed: if there is
    nothing to export.
    """
    if form in CHECKPOINT_FORMATS:
        from training.export import Weights, to_transformers  # imports torch: seconds, which no other format needs
        from training.folders import find_checkpoint

        weights: Weights = "fp32" if form == "transformers" else form  # type: ignore[assignment]
        return ExportAnswer(folder=to_transformers(find_checkpoint(name, root), out, root=root, weights=weights))
    from pipelines.export import EXPORTS  # imports datasets: a second, which a checkpoint does not need

    if form not in EXPORTS:
        raise WinnowError(f"--format {form}: {nearest(form, [*EXPORTS, *CHECKPOINT_FORMATS])}")
    return ExportAnswer(**EXPORTS[form](open_run(root, name), out)._asdict())

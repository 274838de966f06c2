"""How is a corpus or a checkpoint written in a format of another tool? This module dispatches by the format's name."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import WinnowError, nearest
from pipelines.export.corpus import export_corpus, export_hrm_text
from pipelines.ledger.runs import open_run
from pipelines.recipe import Sampling
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER

FORMATS = ("hf", "jsonl", "hrm-text", "transformers")


class ExportAnswer(BaseModel):
    """An export. `winnow export --json` prints it.

    files: relative to `folder`, sorted. rows: of text, or of all epochs. Both are left out for a checkpoint.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    files: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    rows: int | None = Field(default=None, exclude_if=lambda value: value is None)


def export(name: str, form: str, out: str, root: str = "./winnow-data") -> ExportAnswer:
    """Write the corpus of a run, or a checkpoint (`transformers`), into the new folder `out`.

    name: a run's id, or a checkpoint for `transformers`; `latest` for the newest. form: one of FORMATS.

    Raises: WinnowError: if there is no such run, checkpoint or format, or `out` exists.
    """
    if form not in FORMATS:
        raise WinnowError(f"--format {form}: {nearest(form, FORMATS)}")
    if form == "transformers":
        from training.export import to_transformers  # imports torch: seconds, which no other format needs
        from training.finding import find_checkpoint

        return ExportAnswer(folder=str(to_transformers(find_checkpoint(name, root), out)))
    run = open_run(root, name)
    if form == "hrm-text":
        tokens, tokenizer, settings = run.step(TOKENS.name), run.step(TOKENIZER.name), run.info["settings"]
        if tokens is None or tokenizer is None:
            raise WinnowError(f"run {run.id} is a scan and has no tokens; export it as hf or jsonl")
        sampling = Sampling.model_validate(settings["sampling"])
        exported = export_hrm_text(tokens, tokenizer, sampling, settings["seed"], out)
    else:
        exported = export_corpus(run.records, "hf" if form == "hf" else "jsonl", out)
    return ExportAnswer(**exported._asdict())

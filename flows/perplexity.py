"""How likely does a model find the texts of files? Rows are read as a build reads them."""

from __future__ import annotations

import glob
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from flows.console import MIN_RATE_SECONDS, count, current_console
from pipelines.errors import InputError, WinnowError
from pipelines.formats import pairs, roles
from pipelines.formats.read import FORMATS
from pipelines.ledger import input_files, storage
from pipelines.records import CONDITIONS, conform
from pipelines.start import file_layout
from pipelines.steps.source_files import file_names, row_files
from training.configs import Precision
from training.evaluation.perplexity import Likelihood, Passage, Perplexity, likelihoods, summary
from training.folders import find_checkpoint

SOURCE = "text"


class PerplexityAnswer(BaseModel):
    """The perplexity of texts. `winnow perplexity --json` prints it.

    checkpoint: the folder that was asked. columns: file -> what was read from which column; empty for a plain text.
    rows_file: path of the table with a row per text, null without `--out`.
    """

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    context: int
    columns: dict[str, dict[str, str | tuple[str, ...]]]
    result: Perplexity
    rows_file: str | None


def perplexity(
    checkpoint: str,
    files: Sequence[str] = (),
    text: str | None = None,
    columns: Mapping[str, str | tuple[str, ...]] | None = None,
    condition: str = "direct",
    limit: int | None = None,
    out: str | None = None,
    root: str = "./winnow-data",
    device: str = "auto",
    precision: Precision = "fp32",
) -> PerplexityAnswer:
    """Measure the perplexity of a model on the rows of files, on whole text files, or on one text.

    checkpoint: a checkpoint, a training folder, `latest`, or a transformers folder.
    files: paths, globs, folders or URLs. A file of a format that `winnow build` reads has rows: responses are measured
    given their instructions, and texts without. Any other file is one plain text in UTF-8. columns: as for `winnow
    build`, guessed by default. condition: tags of rows without a column of their own. limit: measure only the first
    rows. out: path of a Parquet file with a row per text.

    Raises: WinnowError: for a mistake in the arguments. InputError: if a file cannot be read, or holds no text.
    """
    for tag in condition.split(","):
        if tag not in CONDITIONS:
            raise WinnowError(f"condition {condition!r}: {tag!r} is not one of {', '.join(CONDITIONS)}")
    folder, where = find_checkpoint(checkpoint, root), ", ".join(files) or "--text"
    read: dict[str, dict[str, str | tuple[str, ...]]] = {}
    skipped: Counter[str] = Counter()
    passages = [] if text is None else [Passage(SOURCE, condition, "", text, False)]
    for path in files:
        if storage.is_local(path) and not glob.has_magic(path) and not Path(path).exists():
            raise InputError(f"{path}: no such file")
    paths = list(dict.fromkeys(path for pattern in files for path in _files(pattern)))
    for path, name in zip(paths, file_names(paths), strict=True):
        room = None if limit is None else limit - len(passages)
        if room is not None and room <= 0:
            break
        passages += _passages(path, name, columns, condition, room, read, skipped)
    if not passages:
        raise InputError(f"{where}: no text to measure" + _because(skipped))
    # Imported here because it loads torch; mistakes in the files are told before.
    from training.inference.models import open_token_model

    model = open_token_model(folder, device, precision)
    begun = time.monotonic()
    with current_console() as console:

        def move(done: int, tokens: int) -> None:
            seconds = time.monotonic() - begun
            speed = f"{count(tokens / seconds)} tokens/s" if seconds > MIN_RATE_SECONDS else ""
            console.move_bar("perplexity", done, len(passages), speed)

        console.move_bar("perplexity", 0, len(passages))
        measured = list(likelihoods(model, passages, move))
    result = summary(measured, dict(skipped))
    if result is None:
        raise InputError(f"{where}: no text can be measured" + _because(Counter(map(str, measured))))
    if out is not None:
        storage.write_parquet(out, _table(passages, measured))
    return PerplexityAnswer(checkpoint=folder, context=model.context, columns=read, result=result, rows_file=out)


def _files(pattern: str) -> list[str]:
    """The files of a pattern; of a folder those with rows."""
    return row_files(pattern) if storage.is_folder(pattern) else input_files.expand(pattern)


def _passages(
    path: str,
    name: str,
    given: Mapping[str, str | tuple[str, ...]] | None,
    condition: str,
    limit: int | None,
    read: dict[str, dict[str, str | tuple[str, ...]]],
    skipped: Counter[str],
) -> list[Passage]:
    """The texts of a file. Fills `read` and `skipped`."""
    if input_files.suffix(path) not in FORMATS:
        read[path] = {}
        return [Passage(name, condition, "", _plain_text(path), False)]
    layout = file_layout(path, given, allow_text=True)
    columns = dict(given or layout.columns)
    read[path] = columns
    is_text = roles.is_text_only(columns)
    passages: list[Passage] = []
    for table in pairs.read_pairs(path, columns, None if "condition" in columns else condition, layout.spelling):
        outcome = conform(table, SOURCE, name)
        skipped.update(outcome.dropped["reason"].to_pylist())
        for row in outcome.kept.select(["id", "condition", "instruction", "response"]).to_pylist():
            key = row["id"].removeprefix(f"{SOURCE}/")
            instruction, text = ("", row["instruction"]) if is_text else (row["instruction"], row["response"])
            passages.append(Passage(key, row["condition"], instruction, text, not is_text))
            if len(passages) == limit:
                return passages
    return passages


def _plain_text(path: str) -> str:
    data = storage.read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        known = " ".join(FORMATS)
        raise InputError(f"{path}: neither a format with rows ({known}) nor a text in UTF-8 ({error})") from None
    if "\0" in text:
        raise InputError(f"{path}: not a text (it has null bytes)")
    return text


def _because(reasons: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{reason} {number:,}' for reason, number in reasons.items())})" if reasons else ""


def _table(passages: Sequence[Passage], measured: Sequence[Likelihood | str]) -> pa.Table:
    """A row per text that was measured: id, condition, instruction, text, and its likelihood."""
    both = [(passage, one) for passage, one in zip(passages, measured, strict=True) if not isinstance(one, str)]
    columns = {
        name: pa.array([getattr(passage, name) for passage, _ in both], pa.string())
        for name in ("id", "condition", "instruction", "text")
    }
    likelihood = {name: pa.array([getattr(one, name) for _, one in both]) for name in Likelihood._fields}
    per_token = pa.array([one.nats / one.tokens for _, one in both], pa.float64())
    return pa.table({**columns, **likelihood, "nats_per_token": per_token})

"""What is the loss of each row of a corpus under a model? Written as a table of scores, which a recipe can use."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from flows.console import MIN_RATE_SECONDS, Console, count, current_console, show_waiting
from pipelines.errors import RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import open_run
from pipelines.ledger.score_tables import ScoreTable, ScoreWriter
from pipelines.ledger.storage import TableRef
from training.configs import Precision
from training.evaluation.hard_examples import NAMES, NoiseFit
from training.folders import find_checkpoint

VERSION = 2
"""Raise it when the losses are computed otherwise."""

CHUNK_ROWS = 1024
"""Rows that are measured before they are written: what a kill loses."""

COLUMNS = ["id", "source", "condition", "instruction", "response"]


class ModelLoss(BaseModel):
    """Of one model: its folder, the digest of its weights and tokenizer, and means over the rows that were measured.

    loss, alone: nats per token of the response given the instruction, and without it; each row counts equally.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    identity: str
    loss: float | None
    alone: float | None


class ScoreAnswer(BaseModel):
    """A table of losses. `winnow score --json` prints it.

    path: folder of the table. rows: with those that were not measured. skipped: reason -> rows. classes: class -> rows.
    noise: source -> how well its noise can be told; "" for the small sources together. tokens: of responses measured
    now; each response is measured several times. reused: the table was there.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    records: str
    path: str
    rows: int
    skipped: dict[str, int]
    columns: tuple[str, ...]
    models: tuple[ModelLoss, ...]
    classes: dict[str, int]
    noise: dict[str, NoiseFit]
    tokens: int
    seconds: float
    reused: bool


class Chunk(NamedTuple):
    """Consecutive records of a shard. name: part of the name of its file."""

    name: str
    shard: TableRef
    start: int
    rows: int


def score(
    run: str = "latest",
    checkpoints: Sequence[str] = (),
    model: str | None = None,
    name: str = "loss",
    records: str | None = None,
    limit: int | None = None,
    root: str = "./winnow-data",
    device: str = "auto",
    batch: int = 64,
    precision: Precision = "fp32",
) -> ScoreAnswer:
    """Measure the losses of a run's rows under checkpoints, in their order, or under another model.

    What was measured is kept: the same call carries on after a kill, and ends with the same bytes.

    checkpoints: folders of checkpoints, training folders, `latest`, or transformers folders. model: a transformers
    folder, instead of checkpoints. name: of the score; the first column is `score_<name>`. records: the step of the run
    whose records are measured, by default the corpus. limit: so many rows, of each shard in proportion. batch: most
    responses in a forward pass.

    Raises:
        RunError: if there is no such run, step or checkpoint.
        WinnowError: if no model is given, two models have different tokens, or there is no such device.
    """
    if bool(checkpoints) == (model is not None):
        raise WinnowError("name what to score with: `--checkpoint FOLDER`, which may be repeated, or `--model FOLDER`")
    recorded = open_run(root, run)
    manifest = recorded.records_of(records)
    folders = [find_checkpoint(one, root) for one in checkpoints] if model is None else [_folder(model)]
    # Imported here because it loads torch; mistakes in the names are told before.
    from training.inference.models import identity_of

    identities = [identity_of(folder) for folder in folders]
    settings = {
        "kind": "loss", "version": VERSION, "records": manifest.key, "models": identities, "limit": limit,
        "precision": precision,
    }  # fmt: skip
    outside = {"run": recorded.id, "step": manifest.step, "folders": folders, "device": device, "batch": batch}
    writer = ScoreWriter(root, name, settings, outside)
    chunks = list(_chunks(manifest, limit))
    if not chunks:
        raise RunError(f"run {recorded.id}: step {manifest.step} has no records to score")
    begun, tokens = time.monotonic(), 0

    def make() -> ScoreTable:
        nonlocal tokens
        tokens = _measure(writer, chunks, folders, device, batch, precision)
        return _finish(writer, chunks, folders, identities, name)

    table, reused = writer.made_once(make, functools.partial(show_waiting, f"scores {name}"))
    return ScoreAnswer(
        run=recorded.id,
        records=manifest.step,
        path=table.path,
        rows=table.rows,
        columns=tuple(table.columns.names),
        tokens=tokens,
        seconds=time.monotonic() - begun,
        reused=reused,
        **{**table.facts, "classes": {name: table.facts["classes"][name] for name in NAMES}},
    )


def _folder(model: str) -> str:
    if not storage.is_folder(model):
        raise WinnowError(f"--model {model}: no such folder; name one with config.json, weights and tokenizer")
    return model


def _chunks(manifest: Manifest, limit: int | None) -> Iterator[Chunk]:
    """Runs of rows. limit: of all shards, from each the first rows in proportion to what it has."""
    total = sum(shard.rows for shard in manifest.shards)
    before = taken = 0
    for number, shard in enumerate(manifest.shards):
        before += shard.rows
        wanted = shard.rows if limit is None else min(shard.rows, limit * before // max(total, 1) - taken)
        taken += wanted
        for start in range(0, wanted, CHUNK_ROWS):
            yield Chunk(f"{number:05d}-{start:08d}", shard, start, min(CHUNK_ROWS, wanted - start))


def _measure(
    writer: ScoreWriter, chunks: Sequence[Chunk], folders: Sequence[str], device: str, batch: int, precision: Precision
) -> int:
    """Measure the chunks that are not written yet, one model after the other; returns the tokens measured.

    Raises: WinnowError: if two models have different tokens.
    """
    from training.evaluation.losses import response_tokens, row_losses
    from training.inference.models import open_token_model, vocabulary_of

    vocabularies = [vocabulary_of(folder) for folder in folders] if len(folders) > 1 else []
    for folder, vocabulary in zip(folders, vocabularies, strict=False):
        if vocabulary != vocabularies[0]:
            raise WinnowError(
                f"{folder}: its tokenizer is not that of {folders[0]}, so losses per token cannot be compared; "
                "score with one of them at a time"
            )
    written = writer.chunks()
    waiting = [[chunk for chunk in chunks if _name(number, chunk) not in written] for number in range(len(folders))]
    total = len(folders) * sum(chunk.rows for chunk in chunks)
    done = total - sum(chunk.rows for each in waiting for chunk in each)
    tokens = 0
    with current_console() as console:
        console.move_bar("score", done, total)
        for number, folder in enumerate(folders):
            if not waiting[number]:
                continue
            model = open_token_model(folder, device, precision)
            begun, of_model = time.monotonic(), 0
            for chunk in waiting[number]:
                records = storage.read_parquet(chunk.shard.path, COLUMNS).slice(chunk.start, chunk.rows)
                move = functools.partial(_move, console, done, chunk.rows, total, of_model, begun)
                losses = row_losses(model, records, batch, number == len(folders) - 1, move)
                writer.append(_name(number, chunk), losses)
                of_model += response_tokens(losses)
                done += chunk.rows
            tokens += of_model
    return tokens


def _move(
    console: Console, done: int, rows: int, total: int, before: int, begun: float, share: float, tokens: int
) -> None:
    """Move the bar by a share of a chunk's rows. before, tokens: of the chunks of this model before it, and of it."""
    seconds = time.monotonic() - begun
    speed = f"{count((before + tokens) / seconds)} tokens/s" if seconds > MIN_RATE_SECONDS else ""
    console.move_bar("score", done + int(share * rows), total, speed)


def _name(number: int, chunk: Chunk) -> str:
    return f"{number}-{chunk.name}"


def _finish(
    writer: ScoreWriter, chunks: Sequence[Chunk], folders: Sequence[str], identities: Sequence[str], name: str
) -> ScoreTable:
    """Put the chunks together: the losses under each model, by id, and the classes."""
    from training.evaluation.hard_examples import classify

    each = [
        pa.concat_tables([writer.read(_name(number, chunk)) for chunk in chunks]).combine_chunks()
        for number in range(len(folders))
    ]
    skipped = Counter(reason for reason in each[-1]["problem"].to_pylist() if reason)
    models = [
        ModelLoss(model=folder, identity=identity, loss=_mean(one["loss"]), alone=_mean(one["alone"]))
        for folder, identity, one in zip(folders, identities, each, strict=True)
    ]
    classes = classify(each[-1], each[0] if len(each) > 1 else None)
    facts: dict[str, Any] = {
        "skipped": dict(sorted(skipped.items())),
        "models": [one.model_dump() for one in models],
        "classes": classes.counts,
        "noise": {source: fit.model_dump() for source, fit in classes.fits.items()},
    }
    table = _columns(each, name)
    for column, values in (("noise", classes.noise), ("class", classes.number)):
        table = table.append_column(f"score_{name}_{column}", values)
    return writer.finish(table.append_column(f"{name}_class", classes.name), facts)


def _columns(each: Sequence[pa.Table], name: str) -> pa.Table:
    """Id and score columns. Those without a number are of the last model; with several, each has numbered ones."""
    last, prefix = each[-1], f"score_{name}"
    columns = {"id": last["id"], prefix: last["loss"], f"{prefix}_alone": last["alone"], f"{prefix}_ifd": _ifd(last)}
    if len(each) > 1:
        columns[f"{prefix}_fall"] = pc.subtract(each[0]["loss"], last["loss"])
        for number, losses in enumerate(each, 1):
            columns |= {
                f"{prefix}_{number}": losses["loss"],
                f"{prefix}_alone_{number}": losses["alone"],
                f"{prefix}_ifd_{number}": _ifd(losses),
            }
    columns |= {f"{prefix}_worst": last["worst"], f"{prefix}_tokens": last["tokens"].cast(pa.float32())}
    return pa.table(columns)


def _ifd(losses: pa.Table) -> pa.ChunkedArray:
    return pc.exp(pc.subtract(losses["loss"], losses["alone"]))


def _mean(column: pa.ChunkedArray) -> float | None:
    value = pc.mean(column.cast(pa.float64())).as_py()
    return None if value is None else float(value)

"""The record of a training run: metrics.jsonl, TensorBoard event files and loss.png.

Only the first worker writes. When a run resumes from a checkpoint, the steps after it are removed from the record.

For a local training folder each step is appended at once. For a folder on an object store, which cannot append, the
record is kept in a temporary local folder and uploaded with each checkpoint and at the end.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from pipelines.ledger import storage
from pipelines.ledger.checksums import remove_checksums, write_checksums

METRICS = "metrics.jsonl"
EVENTS = "tensorboard"
CURVE = "loss.png"

Metrics = dict[str, Any]
"""A line of metrics.jsonl.

step, total_steps, epoch; loss (mean cross-entropy per label, in nats), token_accuracy, sequence_accuracy (share of
sequences whose labels are all predicted correctly), grad_norm, lr, bp_steps, inputs and labels (tokens of the step),
digest (of its packs). A step whose loss or gradient is not finite changes nothing: it has `skipped`, and null for loss
and grad_norm. A model with routers has `heads` or `experts`: for each module call, the share of its tokens that used
each part to choose from; and `heads_peak` or `experts_peak`, the largest such share of a block call over the mean. At
some steps also validation_loss and validation_token_accuracy, on rows that are not trained on.
Measured values: seconds, tokens_per_second (input tokens), mfu (the step's FLOPs by training/cost.py over the devices'
peak), input_wait (share of the step's time spent waiting for data), memory (bytes used by the first worker; on a GPU
the peak). On a GPU the measured values are means over the steps that are read together."""

MEASURED = ("seconds", "tokens_per_second", "mfu", "input_wait", "memory")
"""Keys whose values differ between runs of the same configuration on the same data."""

BOARD = ("loss", "token_accuracy", "sequence_accuracy", "validation_loss", "validation_token_accuracy", "grad_norm",
         "lr", "bp_steps", "heads_peak", "experts_peak", "tokens_per_second", "mfu", "input_wait",
         "memory")  # fmt: skip
"""Keys that are shown in TensorBoard."""

TAIL_BYTES = 1 << 16
"""Bytes read from the end of metrics.jsonl to get its last line; a line has fewer than 1,000, and with the use of 64
parts in eight calls fewer than 6,000."""


class Journal:
    """Writes the record of the run in the training folder `out`, continuing after step `resumed_from`."""

    def __init__(self, out: str, resumed_from: int) -> None:
        self._out = out
        self._remote = not storage.is_local(out)
        remove_checksums(out)
        kept = [line for line in read_metrics(out) if line["step"] <= resumed_from]
        # SummaryWriter and the log need a local folder.
        self._folder = Path(tempfile.mkdtemp() if self._remote else storage.absolute(out))
        storage.write_bytes(str(self._folder / METRICS), "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._log = (self._folder / METRICS).open("a")
        # Event files are named by the second. The suffix keeps a run that resumes within it from replacing the first.
        self._board = SummaryWriter(
            str(self._folder / EVENTS),
            purge_step=resumed_from + 1,
            flush_secs=30,
            filename_suffix=f".{resumed_from:08d}",
        )

    def write(self, metrics: Metrics) -> None:
        """Record one step."""
        self._log.write(json.dumps(metrics) + "\n")
        self._log.flush()
        for name in BOARD:
            if metrics.get(name) is not None:
                self._board.add_scalar(name, metrics[name], metrics["step"])

    def upload(self) -> None:
        """Copy the record to a remote training folder. Nothing to do for a local one."""
        if not self._remote:
            return
        self._board.flush()
        for path in sorted(item for item in self._folder.rglob("*") if item.is_file()):
            storage.write_bytes(storage.join(self._out, path.relative_to(self._folder).as_posix()), path.read_bytes())

    def close(self) -> None:
        """Write everything that is still in memory, and the digests of the record's files."""
        self._log.close()
        self._board.close()
        names = [name for name in storage.files_below(str(self._folder)) if name.startswith((METRICS, EVENTS, CURVE))]
        write_checksums(str(self._folder), names)
        if self._remote:
            self.upload()
            shutil.rmtree(self._folder)


def read_metrics(out: str) -> list[Metrics]:
    """The lines of a training folder's metrics.jsonl, without an incomplete last line; empty if there is no file."""
    try:
        lines = storage.read_bytes(storage.join(out, METRICS)).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith(b"}\n")]


def last_metrics(out: str) -> Metrics | None:
    """The last complete line of a training folder's metrics.jsonl; None if there is none. Reads only the file's end."""
    tail = storage.read_tail(storage.join(out, METRICS), TAIL_BYTES)
    lines = tail.splitlines(keepends=True)
    return next((json.loads(line) for line in reversed(lines) if line[:1] == b"{" and line.endswith(b"}\n")), None)


def mean_loss(lines: Sequence[Metrics]) -> float:
    """Mean training loss per label over the steps of `lines`, in nats: comparable with a validation loss.

    Skipped steps do not count; NaN if there are no others.
    """
    lines = [line for line in lines if line["loss"] is not None]
    if not lines:
        return float("nan")
    labels = sum(line["labels"] for line in lines)
    return float(sum(line["loss"] * line["labels"] for line in lines) / labels)


def draw(out: str, title: str) -> None:
    """Draw `out`/loss.png: the loss of each step, its running mean, and the validation loss."""
    # Not pyplot, which is not thread-safe and may look for a display. Imported here because it takes a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [line for line in read_metrics(out) if line["loss"] is not None]
    if not lines:
        return
    steps, losses, labels = (np.array([line[name] for line in lines], float) for name in ("step", "loss", "labels"))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="train loss")
    window = max(1, len(losses) // 50)
    axes.plot(steps, running_mean(losses, labels, window), color="C0", label=f"train loss, mean of {window} steps")
    validated = [line for line in lines if "validation_loss" in line]
    if validated:
        axes.plot([line["step"] for line in validated], [line["validation_loss"] for line in validated], "o-",
                  color="C1", markersize=3, label="validation loss")  # fmt: skip
    for before, after in itertools.pairwise(lines):
        if before["bp_steps"] != after["bp_steps"]:
            axes.axvline(after["step"], color="0.9", linewidth=0.8, zorder=0)
    axes.set(xlabel="step (vertical lines: bp_steps increases)", ylabel="cross-entropy, nats per token", title=title)
    axes.legend()
    with storage.write_file(storage.join(out, CURVE)) as file:
        figure.savefig(file, format="png", dpi=110)


def running_mean(values: np.ndarray, weights: np.ndarray, width: int) -> np.ndarray:
    """The weighted mean of each value and up to `width` - 1 values before it: float64 [values].

    Weighted by labels, a step's loss counts as it does in the validation loss.
    """
    total, weight = (np.concatenate([[0.0], np.cumsum(column)]) for column in (values * weights, weights))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - width, 0)
    return np.asarray((total[last] - total[first]) / (weight[last] - weight[first]))


def without_measured(metrics: Mapping[str, Any]) -> Metrics:
    """A line without its measured values: what a repeated run reproduces bit for bit."""
    return {name: value for name, value in metrics.items() if name not in MEASURED}

"""What a run tells of its steps: metrics.jsonl, which is the record; TensorBoard's event files; loss.png.

Only the first worker writes. A run that carries on takes the steps that it does again out of all three.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"
EVENTS = "tensorboard"
CURVE = "loss.png"

Metrics = dict[str, Any]
"""A line of metrics.jsonl: step, total_steps, epoch, loss (mean CE per label, nats), token_accuracy, sequence_accuracy
(share of sequences whose every label is right), grad_norm, lr, bp_steps, inputs and labels (tokens of the step), digest
(of its packs); at some steps validation_loss and validation_token_accuracy, of rows that are never trained on; and, as
measured: seconds, tokens_per_second (inputs), mfu (the step's FLOPs by training/cost.py, as a share of what the
processors can do), input_wait (share of the step's time spent waiting for data) and memory (bytes that the first worker
holds; on a GPU, the most that it has held there)."""

MEASURED = ("seconds", "tokens_per_second", "mfu", "input_wait", "memory")
"""What differs from one run of the same thing to the next."""

BOARD = ("loss", "token_accuracy", "sequence_accuracy", "validation_loss", "validation_token_accuracy", "grad_norm",
         "lr", "bp_steps", "tokens_per_second", "mfu", "input_wait", "memory")  # fmt: skip

TAIL = 1 << 14
"""Bytes from the end of metrics.jsonl in which its last line is looked for."""


class Journal:
    """The record of a run below `out`, carried on after the step `done`."""

    def __init__(self, out: Path, done: int) -> None:
        kept = [line for line in read_metrics(out) if line["step"] <= done]
        aside = out / f".{METRICS}"
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        aside.replace(out / METRICS)
        self._log = (out / METRICS).open("a")
        # Files are named by the second: one carried on within it would write over the one before.
        suffix = f".{done:08d}"
        self._board = SummaryWriter(str(out / EVENTS), purge_step=done + 1, flush_secs=30, filename_suffix=suffix)

    def write(self, metrics: Metrics) -> None:
        """One step."""
        self._log.write(json.dumps(metrics) + "\n")
        self._log.flush()
        for name in BOARD:
            if metrics.get(name) is not None:
                self._board.add_scalar(name, metrics[name], metrics["step"])

    def close(self) -> None:
        """Put down what is still in memory."""
        self._log.close()
        self._board.close()


def read_metrics(out: Path) -> list[Metrics]:
    """The lines of a run's metrics.jsonl; none when there is no such file, and without a last line cut short."""
    path = out / METRICS
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def last_metrics(out: Path) -> Metrics | None:
    """The last whole line of a run's metrics.jsonl, without reading what is before it; None when there is none."""
    try:
        with (out / METRICS).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - TAIL))
            lines = log.read().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    return next((json.loads(line) for line in reversed(lines) if line[:1] == b"{" and line.endswith(b"}\n")), None)


def draw(out: Path, title: str) -> None:
    """Draw `out`/loss.png: the loss of each step and its running mean, and the loss on rows never trained on."""
    # Not pyplot: that is for one thread and may look for a screen. Imported here, for it takes a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_metrics(out)
    if not lines:
        return
    steps, losses, labels = (np.array([line[name] for line in lines], float) for name in ("step", "loss", "labels"))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="loss")
    axes.plot(steps, running_mean(losses, labels, max(1, len(losses) // 50)), color="C0", label="running mean")
    held = [line for line in lines if "validation_loss" in line]
    if held:
        axes.plot([line["step"] for line in held], [line["validation_loss"] for line in held], "o-", color="C1",
                  markersize=3, label="rows held out")  # fmt: skip
    for before, after in itertools.pairwise(lines):
        if before["bp_steps"] != after["bp_steps"]:
            axes.axvline(after["step"], color="0.9", linewidth=0.8, zorder=0)
    axes.set(xlabel="step (a line where one more module call is differentiated)", ylabel="nats per token", title=title)
    axes.legend()
    aside = out / f".{CURVE}"
    figure.savefig(aside, format="png", dpi=110)
    aside.replace(out / CURVE)


def running_mean(values: np.ndarray, weights: np.ndarray, width: int) -> np.ndarray:
    """The weighted mean of each value and the `width` - 1 before it, as far as there are so many: float64 [values].

    Weighted by labels a batch's loss counts as much as the loss on rows held out counts it.
    """
    total, weight = (np.concatenate([[0.0], np.cumsum(column)]) for column in (values * weights, weights))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - width, 0)
    return np.asarray((total[last] - total[first]) / (weight[last] - weight[first]))


def measured_out(metrics: Mapping[str, Any]) -> Metrics:
    """A line without what was measured: what a run repeats bit for bit."""
    return {name: value for name, value in metrics.items() if name not in MEASURED}

"""The training flow: the packs of a run, a configuration, and Ray Train, scheduled by Prefect."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from flows.configure import configure_training
from flows.console import count, current_console
from flows.execute import check_positive
from flows.prefect.parameters import Config, Out, Root, RunId, Start, Steps, TrainSettings, TrainWorkers
from flows.prefect.tracker import REPORT, UPDATE_SECONDS, reported
from flows.ray.train import train_on_ray
from flows.root import root_or_default
from training.batches import Packs
from training.configs import TrainConfig
from training.journal import Metrics
from training.loop import steps_of
from training.provenance import check_packs

MAX_LINES = 200
"""Lines of the table of metrics: the newest ones, newest first."""

MAX_RANDOM_SHARE = 0.05
"""How much of the moving average may be the random weights of the start without a warning, as when it spans a third of
the steps."""


class TrainAnswer(BaseModel):
    """A training. `winnow train --json` prints it.

    out: folder of the checkpoints and metrics. config: name of the configuration. start: folder of the model that the
    training started from, left out if there is none. step ... memory: the metrics of the last step, as in metrics.jsonl
    (`training.journal.Metrics`), but `seconds` of the whole training; the validation metrics are left out if that step
    has none. mean_train_loss: over the last 50 steps, nats per label. steps: completed. tokens: trained on. checkpoint:
    folder of the latest checkpoint. resumed_from: the step that this call continued from, 0 for a new training.
    """

    model_config = ConfigDict(frozen=True, extra="allow")  # a metric that metrics.jsonl gains is in the answer too

    out: str
    config: str
    start: str | None = Field(default=None, exclude_if=lambda value: value is None)
    step: int
    total_steps: int
    epoch: int
    loss: float
    token_accuracy: float
    sequence_accuracy: float
    grad_norm: float
    lr: float
    bp_steps: int
    inputs: int
    labels: int
    digest: str
    seconds: float
    tokens_per_second: float
    mfu: float
    input_wait: float
    memory: int
    validation_loss: float | None = Field(default=None, exclude_if=lambda value: value is None)
    validation_token_accuracy: float | None = Field(default=None, exclude_if=lambda value: value is None)
    mean_train_loss: float
    steps: int
    tokens: int
    checkpoint: str
    resumed_from: int


@flow(name="train", flow_run_name="{config}-{run}", validate_parameters=True)
@reported
def train_flow(
    run: RunId = "latest",
    config: Config = "tiny",
    root: Root = None,
    out: Out = None,
    workers: TrainWorkers = None,
    steps: Steps = None,
    settings: TrainSettings = (),
    start: Start = None,
) -> TrainAnswer:
    """Train HRM-Text on the packs of a run with Ray Train. Resumes from the latest checkpoint.

    Raises: WinnowError: for a mistake in the arguments. CheckFailed: if workers die too often.
    """
    return train_reported(run, config, root_or_default(root), out, workers, steps, settings, start)


def train_reported(
    run: str,
    config: str,
    root: str,
    out: str | None,
    workers: int | None,
    steps: int | None,
    settings: tuple[str, ...],
    start: str | None,
) -> TrainAnswer:
    """Train, and show it in the flow run that is going on. The arguments are those of `train_flow`."""
    check_positive(workers=workers, steps=steps)
    packs, chosen, folder, name = configure_training(run, config, root, out, steps, settings, start)
    shown = TrainingReport(name)
    with current_console() as console:
        if note := short_run(chosen, packs.shards):
            console.warn(note)
        check_packs(packs, lambda done, total: console.move_bar("check packs: MB", done >> 20, max(total >> 20, 1)))

        def move(metrics: Metrics) -> None:
            console.watch_training(metrics)
            shown.watch(metrics)

        with shown.step():
            summary = train_on_ray(packs.shards, packs.tokenizer, chosen, folder, workers, move, packs.key)
    return TrainAnswer(out=folder, config=config, start=chosen.start, **summary)


def short_run(config: TrainConfig, shards: Sequence[str]) -> str | None:
    """A warning, if the moving average holds much of the weights at the start: it is evaluated, exported and scored."""
    steps, span = steps_of(config, Packs(shards)), 1 / max(1e-9, 1 - config.ema_decay)
    share = config.ema_decay**steps
    average = (
        f"the moving average of the weights, which is evaluated, scored and exported, spans {count(round(span))} "
        f"steps, and this training has {count(steps)}"
    )
    if config.start is None and share > MAX_RANDOM_SHARE:
        return (
            f"{average}: {share:.0%} of it will be the random weights of the start, and its loss far above the printed "
            "one, which is that of the last weights; make more steps, or shorten the average to a tenth of the steps "
            f"(--set ema_decay={max(0.5, round(1 - 10 / steps, 3))})"
        )
    if config.start is not None and span > steps:
        return (
            f"{average}: it stays close to the model that it starts from; make more steps of smaller batches "
            "(--set batch_packs=2), and shorten the average (--set ema_decay=0.95 spans 20 steps)"
        )
    return None


class TrainingReport:
    """What Prefect shows of a training: a task run, its progress, its metrics as a table, and lines of its log."""

    def __init__(self, name: str) -> None:
        self.report, self.name = REPORT.get(), name
        self._last = 0.0
        self._metrics: Metrics | None = None
        self._reported: Metrics | None = None
        if self.report:
            self._progress = self.report.artifact("progress", "winnow-training", f"Training {name}")
            self._table = self.report.artifact("table", "winnow-metrics", f"Metrics of {name}")
            self._lines: list[dict[str, Any]] = []

    def watch(self, metrics: Metrics) -> None:
        """Show the metrics of the latest step, at most every UPDATE_SECONDS."""
        self._metrics = metrics
        if self.report and time.monotonic() - self._last >= UPDATE_SECONDS:
            self._show(metrics)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """The training as one task run, with the last metrics at its end."""
        if self.report is None:
            yield
            return
        with self.report.step("train", self.name) as final:
            yield
            if self._metrics is not None:
                if self._metrics is not self._reported:
                    self._show(self._metrics)
                final += ["Completed", f"{count(self._metrics['step'])} steps, {_loss(self._metrics)}"]
        self._progress.write(100.0)

    def _show(self, metrics: Metrics) -> None:
        assert self.report is not None
        self._last, self._reported = time.monotonic(), metrics
        line = {
            "step": metrics["step"],
            "loss": metrics["loss"],
            "validation loss": metrics.get("validation_loss"),
            "lr": metrics["lr"],
            "gradient norm": metrics["grad_norm"],
            "tokens/s": round(metrics["tokens_per_second"]),
            "MFU": f"{metrics['mfu']:.1%}",
        }
        line = {name: _shown(value) for name, value in line.items()}
        if not self._lines or self._lines[-1] != line:
            self._lines = [*self._lines, line][-MAX_LINES:]
            self._table.write(self._lines[::-1])
        self.report.log.info(
            "step %s of %s: %s, %s tokens/s",
            count(metrics["step"]),
            count(metrics["total_steps"]),
            _loss(metrics),
            count(metrics["tokens_per_second"]),
        )
        self._progress.write(round(100.0 * metrics["step"] / metrics["total_steps"], 1))


def _loss(metrics: Metrics) -> str:
    return "skipped: loss or gradient not finite" if metrics["loss"] is None else f"loss {metrics['loss']:.3f}"


def _shown(value: Any) -> Any:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value

"""The training flow: the packs of a run, a configuration, and Ray Train, scheduled by Prefect."""

from __future__ import annotations

from uuid import UUID

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from pydantic import BaseModel, ConfigDict, Field

from flows.configure import configure
from flows.console import current_console
from flows.ray.train import train_on_ray
from pipelines.ledger import storage
from training.journal import Metrics
from training.provenance import find_packs


class TrainAnswer(BaseModel):
    """A training. `winnow train --json` prints it.

    out: folder of the checkpoints and metrics. config: name of the configuration. step ... memory: the metrics of the
    last step, as in metrics.jsonl (`training.journal.Metrics`), but `seconds` of the whole training; the validation
    metrics are left out if that step has none. mean_train_loss: over the last 50 steps, nats per label. steps:
    completed. tokens: trained on. checkpoint: folder of the latest checkpoint. resumed_from: the step that this call
    continued from, 0 for a new training.
    """

    model_config = ConfigDict(frozen=True, extra="allow")  # a metric that metrics.jsonl gains is in the answer too

    out: str
    config: str
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
def train_flow(
    run: str = "latest",
    config: str = "tiny",
    root: str = "./winnow-data",
    out: str | None = None,
    workers: int | None = None,
    steps: int | None = None,
    settings: tuple[str, ...] = (),
) -> TrainAnswer:
    """Train HRM-Text on the packs of a run.

    run: a run's id, `latest`, or a folder with pack shards and tokenizer.json. config: tiny, b, l, xl ... out: folder
    for checkpoints and metrics (default: `root`/training/<config>-<data key>). workers: by default one for each GPU, or
    two on CPUs. steps: stop after so many. settings: `key=value`, overriding the configuration.

    Raises: WinnowError: for a mistake in the arguments. CheckFailed: if workers die too often.
    """
    packs = find_packs(run, root)
    chosen = configure(config, packs.shards, steps, settings)
    name = f"{config}-{packs.key}" + (f"-{steps}" if steps else "")
    folder = out or storage.join(storage.absolute(root), "training", name)
    artifact = create_progress_artifact(progress=0.0, key="winnow-training", description=f"Training {name}")
    assert isinstance(artifact, UUID)

    with current_console() as console:

        def move(metrics: Metrics) -> None:
            console.watch_training(metrics)
            update_progress_artifact(artifact_id=artifact, progress=100.0 * metrics["step"] / metrics["total_steps"])

        summary = train_on_ray(packs.shards, packs.tokenizer, chosen, folder, workers, move, packs.key)
    update_progress_artifact(artifact_id=artifact, progress=100.0)
    return TrainAnswer(out=folder, config=config, **summary)

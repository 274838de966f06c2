"""The training flow: the packs of a run, a configuration, Ray Train, under Prefect's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from pydantic import ValidationError

from flows.console import current_console
from flows.ray.train import train_on_ray
from pipelines.errors import WinnowError, nearest
from pipelines.settings import override
from training.batches import Packs
from training.configs import CONFIGS, TrainConfig
from training.finding import find_packs
from training.journal import Metrics


def configure(name: str, shards: Sequence[str], steps: int | None = None, settings: Sequence[str] = ()) -> TrainConfig:
    """The configuration with that name, for the vocabulary and context of the shards, with `settings` applied.

    settings: assignments `path.to.key=value` (see `pipelines.settings.override`).

    Raises: WinnowError: for an unknown name or key, or an invalid value.
    """
    if name not in CONFIGS:
        raise WinnowError(f"--config {name}: {nearest(name, CONFIGS)}")
    info = Packs(shards).info
    config = CONFIGS[name](info.vocab_size, info.context)
    values = override(config.model_dump() | ({} if steps is None else {"steps": steps}), settings)
    if values["start"]:  # a worker's working directory may be another one
        values["start"] = str(Path(values["start"]).resolve())
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise WinnowError(f"--config {name}: {problems}") from None


@flow(name="train", flow_run_name="{config}-{run}", validate_parameters=True)
def train_flow(
    run: str = "latest",
    config: str = "tiny",
    root: str = "./winnow-data",
    out: str | None = None,
    workers: int | None = None,
    steps: int | None = None,
    settings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train HRM-Text on the packs of a run.

    run: a run's id, `latest`, or a folder with pack shards and tokenizer.json. config: tiny, b, l, xl ... out: where
    checkpoints and metrics go (default: `root`/training/<config>-<data key>). workers: by default one for each GPU, or
    two on processors. steps: stop after so many. settings: `key=value` on top of the configuration.
    """
    packed = find_packs(run, root)
    chosen = configure(config, packed.shards, steps, settings)
    name = f"{config}-{packed.key}" + (f"-{steps}" if steps else "")
    folder = out or str(Path(root).resolve() / "training" / name)
    artifact = create_progress_artifact(progress=0.0, key="winnow-training", description=f"Training {name}")
    assert isinstance(artifact, UUID)

    with current_console() as console:

        def move(metrics: Metrics) -> None:
            console.trained(metrics)
            update_progress_artifact(artifact_id=artifact, progress=100.0 * metrics["step"] / metrics["total_steps"])

        done = train_on_ray(packed.shards, packed.tokenizer, chosen, folder, workers, move, packed.key)
    update_progress_artifact(artifact_id=artifact, progress=100.0)
    return {"out": folder, "config": config, **done}

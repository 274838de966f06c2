"""The training flow: the packs of a run, a configuration, Ray Train, under Prefect's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.console import onlooker
from flows.ray_train import train_on_ray
from pipelines import storage
from pipelines.errors import RunError, WinnowError, nearest
from training.batches import Packs
from training.configs import CONFIGS, TrainConfig
from training.loop import Metrics


class Packed(NamedTuple):
    """What there is to train on."""

    shards: list[str]
    tokenizer: str
    key: str  # the pack step's key, or the shards' fingerprint


def find_packs(run: str, root: str) -> Packed:
    """The packs of a recorded run under `root`, or of a folder that holds *.arrow shards and a tokenizer.json.

    Raises RunError where there is neither.
    """
    folder = Path(run)
    if folder.is_dir():
        shards = sorted(str(path.resolve()) for path in (*folder.glob("*.arrow"), *folder.glob("shards/*.arrow")))
        tokenizer = folder / "tokenizer.json"
        if not shards or not tokenizer.is_file():
            raise RunError(f"{run}: to train on a folder it must hold *.arrow pack shards and their tokenizer.json")
        return Packed(shards, str(tokenizer.resolve()), Packs(shards).fingerprint())
    from pipelines import lineage

    found = lineage.open_run(root, run)
    packs, tokenizers = found.step("pack"), found.step("tokenizer")
    if packs is None or tokenizers is None:
        raise RunError(f"run {found.id} has no packs; name a run that `winnow build` made (a scan ends with text)")
    paths = [shard.path for shard in packs.shards]
    if not storage.is_local(root):
        raise RunError(f"{root}: training maps its shards, so they must lie on a file system; copy the run to a folder")
    return Packed(paths, tokenizers.shards[0].path, packs.key)


def configure(name: str, shards: Sequence[str], steps: int | None = None) -> TrainConfig:
    """The configuration of that name for the shards' vocabulary and context. Raises WinnowError for an unknown name."""
    if name not in CONFIGS:
        raise WinnowError(f"--config {name}: {nearest(name, CONFIGS)}")
    info = Packs(shards).info
    config = CONFIGS[name](info.vocab_size, info.context)
    return config if steps is None else config.model_copy(update={"steps": steps})


@flow(name="train", flow_run_name="{config}-{run}", validate_parameters=True)
def train_flow(
    run: str = "latest",
    config: str = "tiny",
    root: str = "./winnow-data",
    out: str | None = None,
    workers: int = 2,
    steps: int | None = None,
) -> dict[str, Any]:
    """Train HRM-Text on the packs of a run.

    run: a run's id, `latest`, or a folder with pack shards and tokenizer.json. config: tiny, b, l, xl ... out: where
    checkpoints and metrics go (default: `root`/training/<config>-<data key>). steps: stop after so many.
    """
    packed = find_packs(run, root)
    chosen = configure(config, packed.shards, steps)
    name = f"{config}-{packed.key}" + (f"-{steps}" if steps else "")
    folder = out or str(Path(root).resolve() / "training" / name)
    artifact = create_progress_artifact(progress=0.0, key="winnow-training", description=f"Training {name}")
    assert isinstance(artifact, UUID)

    with onlooker() as console:

        def move(metrics: Metrics) -> None:
            console.trained(metrics)
            update_progress_artifact(artifact_id=artifact, progress=100.0 * metrics["step"] / metrics["total_steps"])

        done = train_on_ray(packed.shards, packed.tokenizer, chosen, folder, workers, move, packed.key)
    update_progress_artifact(artifact_id=artifact, progress=100.0)
    return {"out": folder, "config": config, **done}

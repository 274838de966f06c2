"""Which configuration does a training have? By name, for the packs that it reads, with settings of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.errors import WinnowError
from pipelines.ledger import storage
from pipelines.settings import override
from pipelines.validation import validate
from training.batches import Packs
from training.configs import CONFIGS, TrainConfig
from training.names import check_config


def configure(name: str, shards: Sequence[str], steps: int | None = None, settings: Sequence[str] = ()) -> TrainConfig:
    """The configuration of that name for the vocabulary and context of the shards.

    settings: `key=value`, overriding the configuration. steps: stop after so many.

    Raises: WinnowError: for an unknown name or key, or a value that does not fit.
    """
    check_config(name)
    info = Packs(shards).info
    config = CONFIGS[name](info.vocab_size, info.context)
    values = override(config.model_dump() | ({} if steps is None else {"steps": steps}), settings)
    if values["start"]:  # a worker's working directory may be another one
        values["start"] = storage.absolute(values["start"])
    valid, problems = validate(TrainConfig, values)
    if valid is None:
        raise WinnowError("\n".join(f"--config {name}: {problem.message}" for problem in problems))
    return valid

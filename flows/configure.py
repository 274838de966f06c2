"""Which configuration does a training have? By name, for the packs that it reads, with settings of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from pipelines.errors import WinnowError
from pipelines.ledger import storage
from pipelines.settings import override
from pipelines.validation import validate
from training.batches import Packs
from training.configs import CONFIGS, TrainConfig, sft
from training.folders import find_checkpoint
from training.initial import check_base, read_base
from training.names import CONFIG_NAMES, check_training
from training.provenance import PackFiles, find_packs


class Configured(NamedTuple):
    """A training that can begin. folder: of its checkpoints. name: of the folder that it has by default."""

    packs: PackFiles
    config: TrainConfig
    folder: str
    name: str


def configure_training(
    run: str,
    config: str,
    root: str,
    out: str | None = None,
    steps: int | None = None,
    settings: Sequence[str] = (),
    start: str | None = None,
) -> Configured:
    """A training on the packs of `run`, a recorded run below `root` or a folder.

    config: name of the configuration. out: folder for the checkpoints, by default below the root. start: the model to
    start from, as `find_checkpoint` takes it. `latest` is not the training itself, so that the same command resumes.

    Raises: RunError: if there is no such run, or no such checkpoint. WinnowError: as `configure`.
    """
    packs = find_packs(run, root)
    name = f"{config}-{packs.key}" + (f"-{steps}" if steps else "")
    folder = out or storage.join(storage.absolute(root), "training", name)
    if start is not None:
        start = find_checkpoint(start, root, but=folder)
    return Configured(packs, configure(config, packs.shards, steps, settings, start, packs.tokenizer), folder, name)


def configure(
    name: str,
    shards: Sequence[str],
    steps: int | None = None,
    settings: Sequence[str] = (),
    start: str | None = None,
    tokenizer: str = "",
) -> TrainConfig:
    """The configuration of that name for the vocabulary and context of the shards.

    settings: `key=value`, overriding the configuration. steps: stop after so many. start: folder of the model to start
    from, whose shape `sft` has. tokenizer: of the shards; it must be that of the model to start from.

    Raises: WinnowError: for an unknown name or key, a value that does not fit, or a model that does not.
    """
    check_training(name, start)
    info = Packs(shards).info
    base = None if start is None else read_base(start)
    if name in CONFIG_NAMES:
        config = CONFIGS[name](info.vocab_size, info.context)
    else:
        assert base is not None  # `check_training`
        config = sft(base.model, info.context, base.objective, base.precision)
    changes = {} if steps is None else {"steps": steps}
    config = with_settings(config.model_copy(update=changes), settings, base.folder if base else None)
    if base is not None:
        check_base(base, config.model, info, tokenizer)
    return config


def _complete(config: BaseModel) -> dict[str, Any]:
    """Every value of a configuration by its key; a dump leaves out some that are not set."""
    values = {key: getattr(config, key) for key in type(config).model_fields}
    return {key: _complete(value) if isinstance(value, BaseModel) else value for key, value in values.items()}


def with_settings(config: TrainConfig, settings: Sequence[str], start: str | None) -> TrainConfig:
    """The configuration with `key=value` of the command line and the folder of the model to start from.

    Raises: WinnowError: as `configure`.
    """
    if given := next((setting for setting in settings if setting.partition("=")[0].strip() == "start"), None):
        raise WinnowError(f"--set {given}: name the model to start from with --from, not with --set")
    values = override(_complete(config), settings) | {"start": start}
    valid, problems = validate(TrainConfig, values)
    if valid is None:
        raise WinnowError("\n".join(f"--config {config.name}: {problem.message}" for problem in problems))
    return valid

"""Initial weights: a training may start from a checkpoint, or from a transformers folder of HRM-Text.

`read_base` tells the shape of such a model without reading its weights. `check_base` compares it with a configuration
and with packs, before anything is started. `read_initial` reads the weights, `record` what is kept of their origin.
"""

from __future__ import annotations

from typing import NamedTuple

from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.steps.chat_tokenizer import without_chat
from training import checkpoint
from training.batches import PackInfo
from training.configs import Objective, Precision
from training.export import is_transformers, read_weights, shape_of_transformers
from training.model import HrmText, ModelConfig
from training.start import Start


class Base(NamedTuple):
    """A model to start from. folder: of the checkpoint itself, where a training folder was named."""

    folder: str
    model: ModelConfig
    objective: Objective
    precision: Precision


def read_base(folder: str) -> Base:
    """The shape of the model in a checkpoint's folder, a training folder or a transformers folder.

    Raises:
        InputError, CheckpointError: if the folder is none of them.
    """
    if is_transformers(folder):
        model, causal = shape_of_transformers(folder)
        return Base(storage.absolute(folder), model, "causal" if causal else "prefix_lm", "bf16")
    found = checkpoint.read(folder)
    config = found.state.config
    objective: Objective = "prefix_lm" if config.objective == "prefix_lm" else "causal"
    return Base(storage.absolute(found.folder), config.model, objective, config.precision)


def check_base(base: Base, model: ModelConfig, info: PackInfo, tokenizer: str) -> None:
    """Check that a model of the shape `model` can start from `base` on packs with this metadata and tokenizer.

    Raises:
        InputError: naming what differs, and what to do.
    """
    theirs = storage.join(base.folder, "tokenizer.json")
    if storage.exists(theirs) and without_chat(storage.read_json(theirs)) != without_chat(storage.read_json(tokenizer)):
        raise InputError(
            f"start: {base.folder} was trained with another tokenizer; build the packs with "
            f"`tokenizer: {{path: {theirs}}}` in the recipe (`winnow init FILES --from {base.folder}` writes it)"
        )
    if info.capacity > base.model.max_positions:
        raise InputError(
            f"start: {base.folder} reads at most {base.model.max_positions + 1} tokens, and the packs have up to "
            f"{info.context}; build them with `sampling: {{context: {base.model.max_positions + 1}}}` in the recipe"
        )
    pairs = {key: (getattr(base.model, key), getattr(model, key)) for key in ModelConfig.model_fields}
    if differences := [f"{key} {one}, not {other}" for key, (one, other) in pairs.items() if one != other]:
        raise InputError(
            f"start: {base.folder} is another model: {', '.join(differences)}; `--config sft` has the shape of the "
            "model that it starts from, or use --set model.<key>=<value>"
        )


def read_initial(start: str, model: ModelConfig, info: PackInfo, tokenizer: str) -> HrmText:
    """The model to start from, in float32; of a checkpoint, the moving average of its weights.

    Raises:
        InputError, CheckpointError: if it cannot be read, or does not fit (`check_base`).
    """
    check_base(read_base(start), model, info, tokenizer)
    return read_weights(start)


def record(start: str) -> Start:
    """What a checkpoint keeps of the model that its training started from."""
    from training.inference.checkpoint_model import model_identity  # it imports what generates text

    if is_transformers(start):
        return Start(folder=start, identity=model_identity(start))
    found = checkpoint.read(start)
    state = found.state
    return Start(
        folder=found.folder,
        identity=model_identity(found.folder),
        run_key=state.run_key,
        step=state.step,
        batch_packs=state.config.batch_packs,
        start=state.start,
    )

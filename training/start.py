"""What did a training start from, and what must packs be like to start from a model? Told without importing torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from pipelines.errors import InputError
from pipelines.ledger import storage
from training.folders import MANIFEST, checkpoints


class Start(BaseModel):
    """The model that a training started from, as it was then. It may be gone since.

    folder: of the checkpoint, or of the transformers model; a path or URL. identity: digest of its averaged weights and
    tokenizer, the one by which evaluations know a model. run_key, step, batch_packs: of a checkpoint, the key of the
    packs that it was trained on, its step, and the packs of a step; null for a transformers folder, whose data is not
    known. start: what that training started from in its turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    identity: str
    run_key: str | None = None
    step: int | None = None
    batch_packs: int | None = None
    start: Start | None = None

    def chain(self) -> Iterator[Start]:
        """This one, then what it started from, and so on."""
        start: Start | None = self
        while start is not None:
            yield start
            start = start.start

    def __str__(self) -> str:
        """In words, without the path."""
        if self.run_key is None:
            return f"a transformers model, digest `{self.identity}`"
        return f"step {self.step:,} of a training on packs `{self.run_key}`, digest `{self.identity}`"


class Packing(NamedTuple):
    """What the packs for a model need. tokenizer: path of its tokenizer.json. context: tokens of a row at most."""

    tokenizer: str
    context: int


def packing_for(folder: str) -> Packing:
    """What packs need for a training that starts from a checkpoint, a training folder or a transformers folder.

    Raises:
        InputError: if the folder is none of them, or has no tokenizer.
    """
    if not storage.exists(storage.join(folder, MANIFEST)) and (complete := checkpoints(folder)):
        folder = complete[-1]
    tokenizer = storage.absolute(storage.join(folder, "tokenizer.json"))
    try:
        if storage.exists(storage.join(folder, MANIFEST)):
            context = int(storage.read_json(storage.join(folder, MANIFEST))["config"]["model"]["max_positions"]) + 1
        else:
            context = int(storage.read_json(storage.join(folder, "config.json"))["max_position_embeddings"]) + 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: neither a checkpoint nor a transformers folder of HRM-Text ({error})") from None
    if not storage.exists(tokenizer):
        raise InputError(f"{folder}: has no tokenizer.json; copy the model's there")
    return Packing(tokenizer, context)

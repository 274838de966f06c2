"""An HRM-Text checkpoint, or a transformers folder of HRM-Text, as a `LanguageModel`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import xxhash

from pipelines.ledger import storage
from training import checkpoint
from training.configs import Precision
from training.export import is_transformers
from training.inference.generate import TextGenerator, cut_at_stop, load_text_generator
from training.inference.language_model import BATCH, Completion, LogLikelihood, Request
from training.inference.prompt import token_ids


class CheckpointModel:
    """Completes instructions with a TextGenerator. batch: largest number of sequences decoded together."""

    conditioned = True

    def __init__(self, generator: TextGenerator, identity: str, batch: int = BATCH) -> None:
        self.generator, self.identity, self.batch = generator, identity, batch

    @property
    def name(self) -> str:
        """The folder of the model."""
        return str(self.generator.folder)

    def generate(
        self,
        requests: Sequence[Request],
        n: int = 1,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        context: int | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
        on_done: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """As `LanguageModel.generate`."""
        generator = self.generator
        # Greedy samples are equal, so one is made.
        samples = n if temperature else 1
        prompts = [generator.prompt(*request) for request in requests for _ in range(samples)]
        streams = [stream(request, sample) for request in requests for sample in range(samples)]
        most = min(context or generator.context, generator.context)
        completed = generator.complete(
            prompts, max_tokens or most, self.batch, temperature, seed, stop, on_done, streams, most
        )
        texts = generator.tokenizer.decode_batch([generated.ids for generated in completed])
        completions = [
            Completion(
                cut_at_stop(text, stop),
                len(ids),
                None if finish == "none" else log_prob,
                finish,
                len(token_ids(prompt)),
            )
            for prompt, text, (ids, log_prob, finish) in zip(prompts, texts, completed, strict=True)
        ]
        return [completions[at : at + samples] * (n // samples) for at in range(0, len(completions), samples)]

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood | None]:
        """As `LanguageModel.log_likelihoods`."""
        return self.generator.log_likelihoods(pairs)

    def count_tokens(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self.generator.tokenizer.encode(text, add_special_tokens=False).ids)


def stream(request: Request, sample: int) -> int:
    """The random stream of a sample, 64 bits: it depends on the request and the sample's number alone."""
    return xxhash.xxh3_64_intdigest(json.dumps([*request, sample]).encode())


def load_checkpoint_model(
    folder: str, average: bool = True, device: str = "auto", precision: Precision = "fp32", batch: int = BATCH
) -> CheckpointModel:
    """The model of a checkpoint, a training folder (its latest checkpoint) or a transformers folder of HRM-Text.

    The arguments are those of `load_text_generator`, which also says what is raised.
    """
    generator = load_text_generator(folder, average, device, precision)
    return CheckpointModel(generator, model_identity(str(generator.folder), average), batch)


def model_identity(folder: str, average: bool = True) -> str:
    """A digest of the weights and the tokenizer in a folder, 32 hex digits. Other files and the path do not count.

    average: of a checkpoint, the moving average of the weights, or else the last weights.
    """
    if is_transformers(folder):
        weights = sorted(name for name in storage.files(folder) if name.endswith(".safetensors"))
        known: dict[str, str] = {}
    else:
        weights = [f"{'ema' if average else 'model'}.safetensors"]
        known = checkpoint.read(folder).state.digests
    digests = [known.get(name) or storage.digest(storage.join(folder, name)) for name in [*weights, "tokenizer.json"]]
    return xxhash.xxh3_128_hexdigest(json.dumps(digests).encode())

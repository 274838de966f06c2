"""Ask a model in text: a tokenizer and a Runner.

Prompts are built from ids. Text is encoded with the control tokens switched off, so an instruction that contains
"<|im_end|>" cannot end itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import xxhash
from tokenizers import Tokenizer

from pipelines.errors import WinnowError
from pipelines.ledger import storage
from training import checkpoint
from training.configs import Precision
from training.export import control_tokens, is_transformers, read_weights
from training.inference.language_model import LogLikelihood, Request
from training.inference.prompt import Prompt, instruction_prompt, token_ids
from training.inference.runner import Generated, Runner, find_device

ENVELOPE_ROLES = ("boq", "eoq", "eoa", "pad")
"""Control tokens that are not conditions."""


class TextGenerator(NamedTuple):
    """A model with its tokenizer and control tokens."""

    runner: Runner
    tokenizer: Tokenizer
    special: dict[str, int]  # boq eoq eoa pad and the conditions -> token id
    context: int  # largest number of tokens of prompt and answer together
    folder: str | None = None  # the checkpoint or model folder
    step: int = 0  # of the checkpoint
    causal: bool = False  # whether the model was trained with causal prompts

    def prompt(self, condition: str, instruction: str) -> Prompt:
        """The prompt of an instruction: BOQ, a token per condition tag in the order written, the text, EOQ.

        Raises:
            WinnowError: if a tag is unknown.
        """
        tags = condition.split(",")
        unknown = [tag for tag in tags if tag not in self.special or tag in ENVELOPE_ROLES]
        if unknown:
            raise WinnowError(f"condition {condition!r}: {unknown[0]!r} is not one of direct, cot, noisy, synth")
        ids = [self.special["boq"], *(self.special[tag] for tag in tags), *self._encode(instruction)]
        return instruction_prompt([*ids, self.special["eoq"]], self.causal)

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        batch: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_done: Callable[[int], None] | None = None,
    ) -> list[list[int]]:
        """The token ids of `complete`."""
        completed = self.complete(prompts, max_new_tokens, batch, temperature, seed, stop, on_done)
        return [generated.ids for generated in completed]

    def complete(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        batch: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_done: Callable[[int], None] | None = None,
        streams: Sequence[int] | None = None,
        context: int | None = None,
    ) -> list[Generated]:
        """The answers to `prompts`, in their order.

        stop: an answer ends with the token that completes one of these strings. context: most tokens of prompt and
        answer, by default those of the model. The other arguments are those of `Runner.complete`.
        """
        return self.runner.complete(
            prompts, self.special["eoa"], max_new_tokens, context or self.context, batch, temperature, seed,
            self.stop_condition(stop), on_done, streams,
        )  # fmt: skip

    def answer(
        self,
        instructions: Sequence[str],
        condition: str = "direct",
        max_new_tokens: int = 256,
        batch: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_done: Callable[[int], None] | None = None,
    ) -> list[str]:
        """The model's answers to `instructions`, in their order. Decoding is greedy by default.

        stop: an answer is cut before the first of these strings. The other arguments are those of `Runner.generate`.
        """
        prompts = [self.prompt(condition, instruction) for instruction in instructions]
        answers = self.generate(prompts, max_new_tokens, batch, temperature, seed, stop, on_done)
        return [cut_at_stop(self.tokenizer.decode(ids), stop) for ids in answers]

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood | None]:
        """The log-likelihood of each continuation given its request; None for a pair longer than the context.

        The continuation is encoded separately from the instruction and has no EOA.

        Raises:
            WinnowError: if a condition tag is unknown.
        """
        encoded = [(self.prompt(*request), self._encode(continuation)) for request, continuation in pairs]
        fits = [len(token_ids(prompt)) + len(ids) <= self.context for prompt, ids in encoded]
        found = iter(self.runner.log_likelihoods([pair for pair, one in zip(encoded, fits, strict=True) if one]))
        return [next(found) if one else None for one in fits]

    def response_ids(self, text: str, ends: bool) -> list[int]:
        """The tokens of a response. ends: with EOA."""
        return [*self._encode(text), self.special["eoa"]] if ends else self._encode(text)

    def token_log_likelihoods(
        self, requests: Sequence[tuple[Prompt, Sequence[int]]], batch: int | None = None
    ) -> list[LogLikelihood]:
        """As `Runner.log_likelihoods`."""
        return self.runner.log_likelihoods(requests, batch)

    @property
    def vocabulary(self) -> str:
        """A digest of the tokens and their ids, 32 hex digits."""
        return vocabulary_digest(self.tokenizer.get_vocab())

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def stop_condition(self, stop: Sequence[str]) -> Callable[[list[int]], bool] | None:
        """Whether token ids end an answer; None without stop strings."""
        if not stop:
            return None
        # A token is at least one byte, so the last occurrence lies within as many tokens as the string has bytes. One
        # more, because decoding may replace the bytes of a character that the first token has only in part.
        tail = max(len(text.encode()) for text in stop) + 1

        def stopped(ids: list[int]) -> bool:
            text = self.tokenizer.decode(ids[-tail:])
            return any(string in text for string in stop)

        return stopped


def vocabulary_digest(ids: Mapping[str, int]) -> str:
    """A digest of tokens and their ids, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(json.dumps(sorted(ids.items())).encode())


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first occurrence of any of the strings."""
    return text[: min((at for string in stop if (at := text.find(string)) >= 0), default=len(text))]


def load_text_generator(
    folder: str, average: bool = True, device: str = "auto", precision: Precision = "fp32"
) -> TextGenerator:
    """The text generator of a checkpoint, a training folder (its latest checkpoint) or a folder of transformers.

    Args:
        folder: a local path or a URL.
        average: of a checkpoint, use the moving average of the weights, or else the last weights.
        device: `auto` (a GPU if torch sees one), `cpu`, `cuda` or `cuda:<number>`.
        precision: bf16 is faster, and chooses another token now and then where two are almost equally likely.

    Raises:
        CheckpointError, InputError: if the folder holds neither.
        WinnowError: if there is no such device.
    """
    target = find_device(device)
    step = 0
    if is_transformers(folder):
        special, context, causal = control_tokens(folder)
    else:
        source = checkpoint.read(folder)
        special, context, step = source.state.special, source.state.context, source.state.step
        causal, folder = source.state.config.objective != "prefix_lm", source.folder
    runner = Runner(read_weights(folder, average), target, precision)
    tokenizer = read_tokenizer(storage.join(folder, "tokenizer.json"))
    return TextGenerator(runner, tokenizer, special, context, folder, step, causal)


def read_tokenizer(path: str) -> Tokenizer:
    """A tokenizer that encodes the names of control tokens in a text as plain text."""
    tokenizer = Tokenizer.from_str(storage.read_bytes(path).decode())
    tokenizer.encode_special_tokens = True
    return tokenizer

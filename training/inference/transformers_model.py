"""Any causal language model in a transformers folder, as a `LanguageModel`.

A request is the user's message of the folder's chat template, or the bare instruction if it has none. Conditions have
no meaning here and are dropped.

Prompts are padded on the left and decoded in batches by `generate` of transformers. The token of each row is chosen
here, so that each sample has its own random numbers, and log-probabilities are those of the model at temperature 1. A
model's own generation settings (top-p, repetition penalty) are not used, except for its end tokens.

Shape suffixes: B sequences, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import InputError, WinnowError
from training.configs import DTYPES, Precision
from training.inference.checkpoint_model import stream
from training.inference.generate import cut_at_stop, vocabulary_digest
from training.inference.language_model import BATCH, Completion, Finish, LogLikelihood, Request
from training.inference.prompt import Prompt, Segment, token_ids
from training.inference.runner import batches_by_length, find_device, log_likelihood
from training.inference.scheduler import sample

DIGESTED = frozenset({".safetensors", ".bin", ".json", ".model", ".txt", ".jinja"})
"""Endings of the files that determine completions: weights, configuration, tokenizer, chat template."""


class TransformersModel:
    """`LanguageModel` with AutoModelForCausalLM. batch: largest number of sequences decoded together."""

    conditioned = False

    def __init__(self, folder: str, device: str = "auto", precision: Precision = "fp32", batch: int = BATCH) -> None:
        """
        Raises:
            InputError: if transformers is missing or cannot load the folder.
            WinnowError: if there is no such device.
        """
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise InputError(f"{folder}: install transformers to run this model") from None
        self.name, self.batch = folder, batch
        self._device = find_device(device)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[precision], local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(f"{folder}: transformers cannot load this folder: {error}") from None
        self._model = model.to(self._device).eval().requires_grad_(False)
        ends = self._model.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        pad = self._tokenizer.pad_token_id
        self._pad: int = pad if pad is not None else (self._ends or [0])[0]
        self.context = int(
            getattr(self._model.config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        )
        self.identity = folder_digest(folder)

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
        if temperature < 0:
            raise WinnowError(f"temperature {temperature} is negative")
        samples = n if temperature else 1  # greedy samples are equal, so one is made
        most = min(context or self.context, self.context)
        prompts = [self._encode(request) for request in requests]
        jobs = [(at, number) for at in range(len(requests)) for number in range(samples)]
        limits = [max(min(max_tokens or most, most - len(prompt)), 0) for prompt in prompts]
        completions: dict[tuple[int, int], Completion] = {
            job: Completion("", 0, None, "none", len(prompts[job[0]])) for job in jobs
        }
        # Prompts of similar length together, because shorter ones are padded.
        waiting = sorted(
            (job for job in jobs if limits[job[0]] and prompts[job[0]]), key=lambda job: -len(prompts[job[0]])
        )
        done = len(jobs) - len(waiting)
        for start in range(0, len(waiting), self.batch):
            chosen = waiting[start : start + self.batch]
            random = None
            if temperature:
                keys = [[seed, stream(requests[at], number)] for at, number in chosen]
                random = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
            generated = self._decode(
                [prompts[at] for at, _ in chosen], [limits[at] for at, _ in chosen], temperature, random, stop
            )
            for job, (ids, log_prob, finish) in zip(chosen, generated, strict=True):
                text = self._tokenizer.decode(ids, skip_special_tokens=True)
                completions[job] = Completion(cut_at_stop(text, stop), len(ids), log_prob, finish, len(prompts[job[0]]))
            done += len(chosen)
            if on_done:
                on_done(done)
        return [[completions[at, number] for number in range(samples)] * (n // samples) for at in range(len(requests))]

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood | None]:
        """As `LanguageModel.log_likelihoods`. The continuation is encoded separately."""
        encoded = [(self.prompt(*request), self.response_ids(text, False)) for request, text in pairs]
        fits = [len(token_ids(prompt)) + len(ids) <= self.context for prompt, ids in encoded]
        found = iter(self.token_log_likelihoods([pair for pair, one in zip(encoded, fits, strict=True) if one]))
        return [next(found) if one else None for one in fits]

    def prompt(self, condition: str, instruction: str) -> Prompt:
        """As `TokenModel.prompt`. Where a template or tokenizer gives no token for an empty instruction, the prompt is
        the token that begins a text, or else the one that ends it."""
        ids = self._encode(Request(condition, instruction))
        if not ids:
            begin = self._tokenizer.bos_token_id
            ids = self._ends[:1] if begin is None else [begin]
        if not ids:
            raise WinnowError(f"{self.name}: an empty instruction has no token that predicts the continuation")
        return (Segment(tuple(ids), False),)

    def response_ids(self, text: str, ends: bool) -> list[int]:
        """As `TokenModel.response_ids`. The end is the tokenizer's end token, or else the first of the model's."""
        last = self._tokenizer.eos_token_id
        end = self._ends[:1] if last is None else [last]
        return [*self._tokenizer.encode(text, add_special_tokens=False), *(end if ends else ())]

    @property
    def vocabulary(self) -> str:
        """A digest of the tokens and their ids, 32 hex digits."""
        return vocabulary_digest(self._tokenizer.get_vocab())

    @torch.inference_mode()
    def token_log_likelihoods(
        self, requests: Sequence[tuple[Prompt, Sequence[int]]], batch: int | None = None
    ) -> list[LogLikelihood]:
        """As `TokenModel.token_log_likelihoods`."""
        encoded = [(token_ids(prompt), ids) for prompt, ids in requests]
        results = [LogLikelihood(0.0, True)] * len(encoded)
        lengths = [len(prompt) + len(ids) if len(ids) else 0 for prompt, ids in encoded]
        for chosen in batches_by_length(lengths, batch or self.batch):
            ids_B, mask_B = self._padded([[*encoded[i][0], *encoded[i][1]] for i in chosen], left=False)
            logits = self._model(input_ids=ids_B, attention_mask=mask_B).logits
            for row, i in enumerate(chosen):
                first, count = len(encoded[i][0]), len(encoded[i][1])
                logits_MV = logits[row, first - 1 : first - 1 + count]
                results[i] = log_likelihood(logits_MV, ids_B[row, first : first + count])
        return results

    def count_tokens(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def _encode(self, request: Request) -> list[int]:
        if self._tokenizer.chat_template:
            messages = [{"role": "user", "content": request.instruction}]
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        return list(self._tokenizer.encode(request.instruction))

    def _padded(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, int64 [B, longest]."""
        longest = max(map(len, rows))
        ids, mask = np.full((len(rows), longest), self._pad, np.int64), np.zeros((len(rows), longest), np.int64)
        for row, tokens in enumerate(rows):
            at = slice(longest - len(tokens), longest) if left else slice(0, len(tokens))
            ids[row, at], mask[row, at] = tokens, 1
        return torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)

    @torch.inference_mode()
    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        temperature: float,
        random: Sequence[np.random.Generator] | None,
        stop: Sequence[str],
    ) -> list[tuple[list[int], float, Finish]]:
        """(ids without the end token, log-probability, finish) of one batch."""
        from transformers import GenerationConfig

        ids_B, mask_B = self._padded(prompts, left=True)
        answers: list[list[int]] = [[] for _ in prompts]
        log_probs = [0.0] * len(prompts)
        finish: list[Finish | None] = [None] * len(prompts)
        tail = max((len(text.encode()) for text in stop), default=0) + 1

        def choose(_: Tensor, logits_BV: Tensor) -> Tensor:
            """Scores under which greedy decoding takes the token chosen here."""
            logits_BV = logits_BV.float()
            if random is None:
                tokens_B = logits_BV.argmax(-1)
            else:
                uniform = [r.random() if finish[row] is None else 0.5 for row, r in enumerate(random)]
                tokens_B = sample(logits_BV, temperature, uniform)
            log_prob_B = logits_BV.gather(-1, tokens_B[:, None])[:, 0] - logits_BV.logsumexp(-1)
            for row, (token, log_prob) in enumerate(zip(tokens_B.tolist(), log_prob_B.tolist(), strict=True)):
                if finish[row] is not None:
                    continue
                log_probs[row] += log_prob
                if token in self._ends:
                    finish[row] = "stop"
                    continue
                answers[row].append(token)
                if stop and any(text in self._tokenizer.decode(answers[row][-tail:]) for text in stop):
                    finish[row] = "stop"
                elif len(answers[row]) >= limits[row]:
                    finish[row] = "length"
            return torch.full_like(logits_BV, float("-inf")).scatter(-1, tokens_B[:, None], 0.0)

        def ended(*_: Any, **__: Any) -> Tensor:
            return torch.tensor([reason is not None for reason in finish], device=self._device)

        self._model.generate(
            input_ids=ids_B,
            attention_mask=mask_B,
            generation_config=GenerationConfig(
                max_new_tokens=max(limits), do_sample=False, eos_token_id=self._ends or None, pad_token_id=self._pad
            ),
            logits_processor=[choose],
            stopping_criteria=[ended],
        )
        return [
            (answer, log_prob, reason or "length")
            for answer, log_prob, reason in zip(answers, log_probs, finish, strict=True)
        ]


def folder_vocabulary(folder: str) -> str:
    """The digest of the tokens of a folder (see `TokenModel`). Raises: InputError: if it has no tokenizer."""
    from transformers import AutoTokenizer

    try:
        return vocabulary_digest(AutoTokenizer.from_pretrained(folder, local_files_only=True).get_vocab())
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(f"{folder}: transformers cannot load its tokenizer: {error}") from None


def folder_digest(folder: str) -> str:
    """sha256 over the files of a folder that determine completions: names and contents, in the order of names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).iterdir() if path.suffix in DIGESTED):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()

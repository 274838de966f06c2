"""A checkpoint as a model of lm-evaluation-harness: `--model winnow`, so that its tasks run on an HRM-Text.

    python -m training.evaluation.lm_eval run --model winnow --model_args pretrained=CHECKPOINT --tasks gsm8k

is lm-eval's own command, with the model registered; lm-eval 0.4.13 finds no models of other packages by itself. In
Python, `lm_eval.simple_evaluate(model=WinnowLM(CHECKPOINT), tasks=[...])`.

lm-eval gives a model two texts, a context and a continuation. HRM-Text has no running text: the context becomes an
instruction, in its envelope and with a condition, whose tokens see each other; the continuation is the beginning of the
response. So the two are encoded separately and joined as ids. White space between the two does not count: the end of
the instruction stands for it, and responses do not begin with a space in training. What one trailing or leading space
of a prompt changes for other models therefore changes nothing here.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from pipelines.errors import WinnowError
from training.configs import Precision
from training.folders import find_checkpoint
from training.inference.checkpoint_model import stream
from training.inference.generate import TextGenerator, cut_at_stop, load_text_generator
from training.inference.language_model import BATCH, Request
from training.inference.prompt import Prompt, Segment, token_ids

LM_EVAL_DEVICE = "cuda:0"
"""What lm-eval's command gives if the user names no device."""

UNSUPPORTED = ("top_p", "top_k", "min_p", "repetition_penalty", "num_beams")
"""Arguments of generation that are ignored, with a warning, if they are not at the value that changes nothing."""


@register_model("winnow")
class WinnowLM(TemplateLM):  # type: ignore[misc]
    """A checkpoint, training folder or transformers folder of HRM-Text, or a loaded TextGenerator."""

    backend = "seq2seq"  # context and continuation are encoded separately

    def __init__(
        self,
        pretrained: str | TextGenerator,
        condition: str = "direct",
        device: str | None = "auto",
        precision: Precision = "fp32",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        seed: int = 0,
        weights: Literal["ema", "model"] = "ema",
        root: str = "winnow-data",
    ) -> None:
        """
        Args:
            pretrained: the folder, or a loaded model. `latest`: the newest checkpoint below `root`.
            condition: tags of the prompts, joined by `,` or, in `--model_args`, by `+`: `direct`, `synth+cot`.
            device, precision: as in `load_text_generator`; `cuda:0` is `auto` where there is no GPU.
            batch_size: sequences decoded together. `auto` is 32. It does not change results.
            max_batch_size: not used.
            max_length: most tokens of prompt and continuation; by default those of the model.
            max_gen_toks: most tokens of an answer, of tasks that do not say.
            seed: of samples.
            weights: the moving average of a checkpoint's weights, or the last ones.
            root: the folder of Winnow's trainings, for `latest`.

        Raises:
            WinnowError, CheckpointError: if an argument is wrong, or the folder has no model.
        """
        super().__init__()
        if weights not in ("ema", "model"):
            raise WinnowError(f"weights={weights}: use ema or model")
        if isinstance(pretrained, TextGenerator):
            self.generator = pretrained
        else:
            pretrained = find_checkpoint(pretrained, root) if pretrained == "latest" else pretrained
            if device == LM_EVAL_DEVICE and not torch.cuda.is_available():
                device = "auto"
            self.generator = load_text_generator(pretrained, weights == "ema", device or "auto", precision)
        self.condition = condition.replace("+", ",")
        self.batch_size = _batch(batch_size)
        self.max_length = min(int(max_length or self.generator.context), self.generator.context)
        self.max_gen_toks = int(max_gen_toks)
        self.seed = int(seed)
        self._weights = weights
        self._precision = precision
        self._envelope = len(token_ids(self.generator.prompt(self.condition, "")))  # also checks the tags
        if self.max_length <= self._envelope:
            raise WinnowError(f"max_length={max_length}: a prompt without text has {self._envelope} tokens")

    # ------------------------------------------------------------------------------------------------------- what it is

    @property
    def eot_token_id(self) -> int:
        """The token that ends a response."""
        return self.generator.special["eoa"]

    @property
    def device(self) -> Any:
        """The device of the weights."""
        return self.generator.runner.device

    @property
    def tokenizer_name(self) -> str:
        """The folder of the model, by which lm-eval names its cache of requests."""
        return str(self.generator.folder).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """None: every prompt is in the envelope already."""
        if chat_template:
            self.apply_chat_template([])
        return None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Raises: WinnowError: always."""
        raise WinnowError("winnow puts every prompt into HRM-Text's envelope already: leave out --apply_chat_template")

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval stores with its results."""
        return {
            "winnow_checkpoint": self.generator.folder,
            "winnow_step": self.generator.step,
            "winnow_weights": self._weights,
            "winnow_condition": self.condition,
            "winnow_precision": self._precision,
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The ids of a text, without envelope. Names of control tokens are plain text."""
        ids: list[int] = self.generator.tokenizer.encode(string, add_special_tokens=False).ids
        return ids

    # ------------------------------------------------------------------------------------------------------- likelihood

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt, with its envelope, and of a continuation. Neither is truncated."""
        text = continuation.lstrip() or continuation
        return token_ids(self.generator.prompt(self.condition, context.strip())), self.tok_encode(text)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, whether greedy decoding yields it) of each continuation. A context may be empty."""
        pairs = [request.args for request in requests]
        return self._loglikelihood_tokens([(pair, *self._encode_pair(*pair)) for pair in pairs], disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        """As `loglikelihood`, of ids: (texts for the cache, prompt with its envelope, continuation).

        An instruction that leaves too little room loses its beginning.

        Raises:
            WinnowError: if a continuation alone is longer than the context.
        """
        encoded = []
        for texts, ids, continuation in requests:
            if self._envelope + len(continuation) > self.max_length:
                raise WinnowError(
                    f"a continuation of {len(continuation)} tokens does not fit the context of {self.max_length}: "
                    f"{(texts or ('', ''))[1][:80]!r}"
                )
            encoded.append((self._prompt(ids, self.max_length - len(continuation)), continuation))
        results = self._score(encoded, disable_tqdm)
        for (texts, _, _), result in zip(requests, results, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, result)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each text as a response to an empty instruction.

        A text that is longer than the context is predicted in lm-eval's windows. Each but the first begins with one
        token that it does not predict, and the last one with as many as fit.
        """
        start = self.generator.prompt(self.condition, "")
        windows: list[tuple[Prompt, list[int]]] = []
        owners = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(ids, -1, self.max_length - self._envelope - 1, 1):
                before, predicted = make_disjoint_window(window)
                seen = tuple(token for token in before if token != -1)
                windows.append(((*start, Segment(seen, False)) if seen else start, predicted))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, (log_prob, _) in zip(owners, self._score(windows, disable_tqdm), strict=True):
            totals[number] += log_prob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _score(self, encoded: Sequence[tuple[Prompt, list[int]]], disable_tqdm: bool) -> list[tuple[float, bool]]:
        # Long ones first, so that memory runs out at once, if it does, and the estimate of the time falls.
        order = sorted(range(len(encoded)), key=lambda i: -len(token_ids(encoded[i][0])) - len(encoded[i][1]))
        results: list[tuple[float, bool]] = [(0.0, True)] * len(encoded)
        with tqdm(total=len(encoded), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:
            for at in range(0, len(order), self.batch_size):
                chosen = order[at : at + self.batch_size]
                scored = self.generator.runner.log_likelihoods([encoded[i] for i in chosen])
                for i, one in zip(chosen, scored, strict=True):
                    results[i] = (one.log_prob, one.is_greedy)
                bar.update(len(chosen))
        return results

    def _prompt(self, ids: Sequence[int], room: int) -> Prompt:
        """A prompt of ids with their envelope in at most `room` tokens: the instruction loses its beginning."""
        excess = max(len(ids) - room, 0)
        begin = self._envelope - 1  # EOQ is last
        return (Segment((*ids[:begin], *ids[begin + excess :]), not self.generator.causal),)

    # ------------------------------------------------------------------------------------------------------- generation

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The response to each context, up to the first of the task's stop strings.

        An instruction keeps its whole text if at least half of the context, or as much as the task asks for, is left
        for the response. Otherwise it loses its beginning.
        """
        groups: dict[str, list[int]] = {}
        settings = [normalize_gen_kwargs(request.args[1], self.max_gen_toks) for request in requests]
        for number, setting in enumerate(settings):
            groups.setdefault(repr(sorted(setting.items())), []).append(number)
        texts = [""] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests") as bar:
            for numbers in groups.values():
                contexts = [requests[number].args[0] for number in numbers]
                for number, text in zip(numbers, self._generate(contexts, settings[numbers[0]], bar), strict=True):
                    texts[number] = text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return texts

    def _generate(self, contexts: Sequence[str], setting: Any, bar: Any) -> list[str]:
        """Responses with one setting. Each repetition of a context is a sample of its own."""
        ignored = [f"{name}={setting[name]}" for name in UNSUPPORTED if setting.get(name) not in (None, 0, 1, 1.0)]
        if ignored and setting["do_sample"]:
            logging.getLogger(__name__).warning(f"winnow ignores {', '.join(ignored)}: it samples by temperature alone")
        stop = [string for string in setting["until"] if string]
        limit = setting["max_gen_toks"]
        room = self.max_length - min(limit, self.max_length // 2)
        prompts = [
            self._prompt(token_ids(self.generator.prompt(self.condition, context.strip())), room)
            for context in contexts
        ]
        samples: Counter[str] = Counter()
        streams = []
        for context in contexts:
            streams.append(stream(Request(self.condition, context), samples[context]))
            samples[context] += 1
        done = 0

        def on_done(finished: int) -> None:
            nonlocal done
            bar.update(finished - done)
            done = finished

        completed = self.generator.complete(
            prompts, limit, self.batch_size, setting.get("temperature", 0.0) if setting["do_sample"] else 0.0,
            self.seed, stop, on_done, streams, self.max_length,
        )  # fmt: skip
        return [cut_at_stop(self.generator.tokenizer.decode(one.ids), stop) for one in completed]


def _batch(size: int | str | None) -> int:
    """Raises: WinnowError: if it is neither a positive number nor `auto`."""
    text = str(size or BATCH).partition(":")[0]
    if text == "auto":
        return BATCH
    if not text.isdecimal() or int(text) < 1:
        raise WinnowError(f"batch_size={size}: use a positive number or auto")
    return int(text)


def main(arguments: Sequence[str]) -> None:
    """Run lm-eval's own command (`run`, `ls`, `validate`) with the model `winnow` registered."""
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    sys.argv = ["lm-eval", *arguments]
    command = HarnessCLI()
    command.execute(command.parse_args())


if __name__ == "__main__":
    main(sys.argv[1:])

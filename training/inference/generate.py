"""Ask a model: batched greedy decoding with a cache per attention call.

Each of the 8 module calls sees states of its own, so each call of each block has its own keys and values: `slots` of
them, [B, T, H, K] each. A prompt is read once, packed without padding, all its tokens seeing each other; then one token
per sequence and step. Cached rows never move: sequences that have ended stay in the batch until half of it has.

Prompts are built from ids: text is encoded with the control tokens switched off, so a question that contains
"<|im_end|>" cannot end itself.

Shape suffixes: B sequences, T cached positions, N packed tokens, H heads, K head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from pipelines.errors import WinnowError
from training import checkpoint
from training.attention import Layout, attend, layout
from training.configs import DTYPES, Precision
from training.export import is_transformers, load_weights, roles
from training.inference import cpu_decode as decode
from training.model import HrmText, slots


class Speaker(NamedTuple):
    """A model and how to talk to it."""

    model: HrmText
    tokenizer: Tokenizer
    special: dict[str, int]  # boq eoq eoa pad and the conditions -> token id
    context: int  # tokens of prompt and answer together
    folder: Path | None = None  # the checkpoint, and the step it was taken at
    step: int = 0
    causal: bool = False  # the tokens of a prompt see what went before them only, as the model has learnt it
    packed: decode.Packed | None = None  # the weights for the compiled step; without them torch takes the steps


def load(folder: str, average: bool = True, precision: Precision = "fp32") -> Speaker:
    """The model of a checkpoint (or of a run's latest): the moving average of its weights, or the last ones. Or that of
    a folder that transformers can load, exported here or published.

    bf16 answers faster, and now and then with another token where two were nearly as likely.
    """
    model = load_weights(folder, average).to(DTYPES[precision])
    if is_transformers(folder):
        special, context, causal = roles(folder)
        where, step = Path(folder), 0
    else:
        found = checkpoint.read(Path(folder))
        special, context = found.progress.special, found.progress.context
        causal = found.progress.config.objective != "prefix_lm"
        where, step = found.folder, found.progress.step
    tokenizer = read_tokenizer(where / "tokenizer.json")
    return Speaker(model, tokenizer, special, context, where, step, causal, decode.pack(model))


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that takes the names of control tokens in a text for text."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def prompt(speaker: Speaker, condition: str, instruction: str) -> list[int]:
    """BOQ, a token per condition tag in the order written, the instruction, EOQ. WinnowError if a tag is unknown."""
    tags = condition.split(",")
    unknown = [tag for tag in tags if tag not in speaker.special or tag in ("boq", "eoq", "eoa", "pad")]
    if unknown:
        raise WinnowError(f"condition {condition!r}: {unknown[0]!r} is not one of direct, cot, noisy, synth")
    text: list[int] = speaker.tokenizer.encode(instruction, add_special_tokens=False).ids
    return [speaker.special["boq"], *(speaker.special[tag] for tag in tags), *text, speaker.special["eoq"]]


def answer(
    speaker: Speaker, instructions: Sequence[str], condition: str = "direct", max_new_tokens: int = 256, batch: int = 32
) -> list[str]:
    """The model's answers to `instructions`, greedily, in their order."""
    prompts = [prompt(speaker, condition, instruction) for instruction in instructions]
    return [speaker.tokenizer.decode(ids) for ids in generate(speaker, prompts, max_new_tokens, batch)]


def generate(
    speaker: Speaker,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch: int = 32,
    on_done: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Greedy continuations of `prompts`, in their order, without the EOA that ends them.

    Each ends at EOA, after `max_new_tokens`, or where the context is full; a prompt that leaves no room, or is empty,
    gets an empty answer. `batch` sequences are decoded together (of like length, to waste little). `on_done` is told
    the number of prompts answered so far.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    fitting = [i for i, ids in enumerate(prompts) if 0 < len(ids) < speaker.context]
    fitting.sort(key=lambda i: len(prompts[i]))
    for start in range(0, len(fitting), batch):
        chosen = fitting[start : start + batch]
        for i, ids in zip(chosen, _decode(speaker, [prompts[i] for i in chosen], max_new_tokens), strict=True):
            answers[i] = ids
        if on_done:
            on_done(len(prompts) - len(fitting) + start + len(chosen))
    return answers


class Cache:
    """Keys and values [slots, B, H, T, K] of the sequences in a batch, and how many positions each has filled."""

    def __init__(self, model: HrmText, lengths: Sequence[int], room: int, causal: bool, packed: bool) -> None:
        config = model.config
        shape = (slots(config), len(lengths), config.heads, max(lengths) + room, config.hidden // config.heads)
        if packed:  # reads nothing that it has not written
            self.keys, self.values = decode.room(*shape), decode.room(*shape)
        else:
            self.keys, self.values = (torch.zeros(shape, dtype=model.lm_head.weight.dtype) for _ in range(2))
        self.filled_B = torch.tensor(lengths)
        # Where each packed prompt token goes.
        self._sequence_N = torch.repeat_interleave(torch.arange(len(lengths)), self.filled_B)
        self._position_N = torch.cat([torch.arange(n) for n in lengths])
        self._causal, self._dtype = causal, model.lm_head.weight.dtype
        self._sees: Tensor | None = None

    @cached_property
    def _plan(self) -> Layout:
        """Attention among the prompts' own tokens; the compiled function reads prompts without it."""
        lengths = self.filled_B.tolist()
        prefixes = [1 if self._causal else n for n in lengths]
        return layout(prefixes, [n - p for n, p in zip(lengths, prefixes, strict=True)], self._dtype)

    def read(self, slot: int, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
        """Attention among the prompts' own tokens; keeps their keys and values."""
        self.keys[slot, self._sequence_N, :, self._position_N] = k_NHK.to(self.keys.dtype)
        self.values[slot, self._sequence_N, :, self._position_N] = v_NHK.to(self.values.dtype)
        return attend(self._plan, q_NHK, k_NHK, v_NHK)

    def advance(self) -> Tensor:
        """Make room for one more token per sequence and return its positions [B]."""
        positions_B = self.filled_B
        self.filled_B = positions_B + 1
        self._longest = int(self.filled_B.max())
        seen_BT = torch.arange(self._longest) < self.filled_B[:, None]
        even = bool(seen_BT.all())
        self._sees = None
        if not even:
            zeros_BT = torch.zeros(seen_BT.shape, dtype=self.keys.dtype)
            self._sees = zeros_BT.masked_fill_(~seen_BT, -torch.inf)[:, None, None]
        self._rows_B = torch.arange(len(positions_B))
        self._positions_B = positions_B
        return positions_B

    def extend(self, slot: int, q_BHK: Tensor, k_BHK: Tensor, v_BHK: Tensor) -> Tensor:
        """Attention of each sequence's new token to all of its sequence."""
        keys, values = self.keys[slot], self.values[slot]
        keys[self._rows_B, :, self._positions_B] = k_BHK
        values[self._rows_B, :, self._positions_B] = v_BHK
        seen = slice(self._longest)
        a = F.scaled_dot_product_attention(q_BHK[:, :, None], keys[:, :, seen], values[:, :, seen], self._sees)
        return a[:, :, 0]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the sequences only."""
        self.keys, self.values, self.filled_B = self.keys[:, rows], self.values[:, rows], self.filled_B[rows]


@torch.inference_mode()
def _decode(speaker: Speaker, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Continuations of a batch of prompts, each non-empty and shorter than the context."""
    model, eoa = speaker.model, speaker.special["eoa"]
    lengths = [len(ids) for ids in prompts]
    room = min(max_new_tokens, speaker.context - min(lengths))
    answers: list[list[int]] = [[] for _ in prompts]
    if room < 1:
        return answers
    cache = Cache(model, lengths, room, speaker.causal, speaker.packed is not None)
    if speaker.packed and model.lm_head.weight.dtype == torch.float32:
        logits_BV = decode.read(speaker.packed, cache.keys, cache.values, prompts, speaker.causal)
    else:  # many rows of bf16 are faster through torch, whose products use what the processor has for them
        tokens_N = torch.tensor([token for ids in prompts for token in ids])
        positions_N = torch.cat([torch.arange(n) for n in lengths])
        ends_B = torch.tensor(lengths).cumsum(0) - 1
        logits_BV = model(tokens_N, positions_N, cache.read, rows_M=ends_B)
    live = list(range(len(prompts)))  # prompt of each row of the cache; its answer may have ended
    ended = [False] * len(prompts)
    while True:
        next_B = logits_BV.argmax(-1)
        for row, token in zip(live, next_B.tolist(), strict=True):
            if ended[row]:
                continue
            if token == eoa:
                ended[row] = True
                continue
            answers[row].append(token)
            ended[row] = len(answers[row]) >= min(max_new_tokens, speaker.context - lengths[row])
        going = [at for at, row in enumerate(live) if not ended[row]]
        if not going:
            return answers
        if len(going) <= len(live) // 2:
            cache.keep(torch.tensor(going))
            next_B = next_B[going]
            live = [live[at] for at in going]
        if speaker.packed:
            logits_BV = decode.step(speaker.packed, cache.keys, cache.values, next_B, cache.filled_B)
            cache.filled_B = cache.filled_B + 1
        else:
            logits_BV = model(next_B, cache.advance(), cache.extend)

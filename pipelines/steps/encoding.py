"""How does text become token ids? Byte-level BPE of Qwen's shape with single digits, as HRM-Text publishes it.

Source: sapientinc/data_io. A tokenizer is a `tokenizer.json` of Hugging Face's library; texts are encoded by tiktoken,
which gives the same ids at some five times the speed.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tiktoken
from tokenizers import Tokenizer

from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.storage import FileRef
from pipelines.steps.chat_tokenizer import without_chat

SPECIAL = (
    "<|PAD|>",
    *("<|direct|>", "<|cot|>", "<|noisy|>", "<|synth|>"),
    "<|endoftext|>",
    *("<|im_start|>", "<|im_end|>"),
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)
"""The special tokens of HRM-Text's tokenizer, in the order of their ids, 0 to 30."""

ENVELOPE = {
    "boq": "<|im_start|>",
    "eoq": "<|im_end|>",
    "eoa": "<|box_end|>",
    "direct": "<|object_ref_start|>",
    "cot": "<|object_ref_end|>",
    "noisy": "<|quad_start|>",
    "synth": "<|quad_end|>",
}
"""What the envelope is made of. The condition tokens are not `<|direct|>` ...: upstream trains with these."""

PADDING = ("<|PAD|>", "<|endoftext|>")
"""The padding token is the first of these that a tokenizer has."""

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's split: contractions, words with the character before them, single digits, punctuation, line ends, spaces."""

LONG_BYTES = 1 << 16
"""Longer texts are encoded by Hugging Face's library: tiktoken's regex overflows its stack on a million spaces."""

CHUNK_ROWS = 4096
"""Texts encoded at a time, which bounds the Python integers alive at once (some 36 bytes a token)."""

Ints = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint16 | np.uint32]


def token_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest of uint16 and uint32 that holds every id below `vocab_size`; 65,536 ids fit in 16 bits."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, ready to encode text as plain text.

    special: the ids of boq, eoq, eoa, pad and the four conditions. fast and plain give the same ids; fast is tiktoken,
    at some five times the speed.
    """

    vocab_size: int
    special: dict[str, int]
    fast: tiktoken.Encoding
    plain: Tokenizer
    normalize: Callable[[str], str]

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without envelope. A text never gives the id of a special token."""
        if len(text) * 4 > LONG_BYTES and len(text.encode()) > LONG_BYTES:
            return list(self.plain.encode(text, add_special_tokens=False).ids)
        return self.fast.encode_ordinary(text if text.isascii() else self.normalize(text))

    def encode_column(self, texts: pa.Array) -> tuple[Tokens, Ints]:
        """The ids of all texts, one after another, and the number of ids of each text (int64 [rows])."""
        kind = token_type(self.vocab_size)
        values, lengths = [np.empty(0, kind)], [np.empty(0, np.int64)]
        # BPE takes one text at a time, so this is a loop over rows; it costs about a hundredth of BPE itself.
        for start in range(0, len(texts), CHUNK_ROWS):
            ids = [self.encode(text) for text in texts.slice(start, CHUNK_ROWS).to_pylist()]
            counts = np.fromiter(map(len, ids), np.int64, len(ids))
            values.append(np.fromiter(itertools.chain.from_iterable(ids), kind, int(counts.sum())))
            lengths.append(counts)
        return np.concatenate(values), np.concatenate(lengths)


def encoder(data: bytes, path: str) -> Encoder:
    """The encoder of a `tokenizer.json`. Raises: InputError: naming `path` and what is missing or different in it."""
    try:
        spec = without_chat(json.loads(data))
        plain = Tokenizer.from_str(json.dumps(_without_special(spec)))
        added = {token["content"]: int(token["id"]) for token in spec["added_tokens"]}
        vocabulary = {token: int(index) for token, index in spec["model"]["vocab"].items() if token not in added}
    except Exception as error:  # the tokenizers library raises bare Exception
        raise InputError(f"{path}: not a tokenizer.json ({type(error).__name__}: {str(error)[:200]})") from error
    names = {**ENVELOPE, "pad": next((token for token in PADDING if token in added), PADDING[0])}
    missing = [token for token in names.values() if token not in added]
    if missing:
        needed = ", ".join(names.values())
        raise InputError(f"{path}: lacks the special token {', '.join(missing)}; HRM-Text's envelope needs {needed}")
    split = _split(spec, path)
    ranks = _ranks(spec, vocabulary, path)
    size = 1 + max(itertools.chain(vocabulary.values(), added.values()))
    fast = tiktoken.Encoding("winnow", pat_str=split, mergeable_ranks=ranks, special_tokens={})
    special = {name: added[token] for name, token in names.items()}
    return Encoder(size, special, fast, plain, plain.normalizer.normalize_str)


@functools.lru_cache(maxsize=2)
def load(tokenizer: FileRef) -> Encoder:
    """The encoder of a tokenizer step's file. It is cached, since a worker encodes many shards."""
    return encoder(storage.read_bytes(tokenizer.path), tokenizer.path)


def _without_special(spec: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer without added tokens: a text that spells one is encoded as ordinary text."""
    added = {token["content"] for token in spec["added_tokens"]}
    vocabulary = {token: index for token, index in spec["model"]["vocab"].items() if token not in added}
    return {**spec, "added_tokens": [], "post_processor": None, "model": {**spec["model"], "vocab": vocabulary}}


def _split(spec: dict[str, Any], path: str) -> str:
    """The split regex of a tokenizer, if both libraries give the same ids for its kind. Raises: InputError: if not."""
    model, steps = spec["model"], (spec.get("pre_tokenizer") or {}).get("pretokenizers", [])
    requirements = {
        "its model is not BPE": model.get("type") == "BPE",
        "its BPE has dropout, prefixes, suffixes or byte fallback": not any(
            model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
        ),
        "its normalizer is not NFC": (spec.get("normalizer") or {}).get("type") == "NFC",
        "its pre-tokenizer is not an isolating split by a regex, then plain byte-level": len(steps) == 2
        and steps[0].get("type") == "Split"
        and "Regex" in steps[0]["pattern"]
        and steps[0]["behavior"] == "Isolated"
        and not steps[0]["invert"]
        and steps[1].get("type") == "ByteLevel"
        and not steps[1]["add_prefix_space"]
        and not steps[1]["use_regex"],
    }
    for problem, met in requirements.items():
        if not met:
            raise InputError(f"{path}: {problem}; give byte-level BPE of Qwen's shape, or no `path` to train one")
    return str(steps[0]["pattern"]["Regex"])


def _ranks(spec: dict[str, Any], vocabulary: dict[str, int], path: str) -> dict[bytes, int]:
    """Each token's bytes -> its id.

    Hugging Face's library merges by the list of merges, tiktoken by the ids of the merged tokens. The two agree if
    every longer token comes from one merge and merges are in the order of their ids, which holds for any trained BPE.

    Raises: InputError: if it does not hold, or a byte has no token.
    """
    to_byte = {character: byte for byte, character in byte_characters().items()}
    try:
        ranks = {bytes(to_byte[character] for character in token): index for token, index in vocabulary.items()}
    except KeyError as error:
        raise InputError(f"{path}: its vocabulary is not byte-level (it holds {error.args[0]!r})") from None
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        first = f"0x{missing[0]:02x}"
        raise InputError(f"{path}: {len(missing)} of the 256 bytes have no token ({first} first): text could be lost")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in spec["model"]["merges"]]
    merged = [vocabulary.get(left + right, -1) for left, right in pairs]
    ordered = all(earlier < later for earlier, later in itertools.pairwise([-1, *merged]))
    if not ordered or len(merged) + 256 != len(ranks):
        raise InputError(f"{path}: its merges are not in the order of its ids, or some token has no merge or several")
    return ranks


def byte_characters() -> dict[int, str]:
    """Byte -> its character in byte-level BPE (GPT-2): printable Latin-1 as itself, the others from U+0100, in
    order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}

"""How does text become token ids? Byte-level BPE of Qwen's shape with single digits, as HRM-Text publishes it.

Source: sapientinc/data_io. A tokenizer is a `tokenizer.json` of Hugging Face's library. Texts are encoded by
`pipelines.bpe` if it splits as Qwen2 does, and by tiktoken if not. Both give the ids that Hugging Face's library gives.
"""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tiktoken
from tokenizers import Tokenizer

from pipelines.bpe.encode import WordEncoder, merge_table
from pipelines.bpe.words import SPLIT, normalized
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

    special: the ids of boq, eoq, eoa, pad and the four conditions. words: encodes columns, for tokenizers that split by
    SPLIT. other: encodes one text, normalized or not, for other tokenizers.
    """

    vocab_size: int
    special: dict[str, int]
    words: WordEncoder | None
    other: TextEncoder

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without envelope. A text never gives the id of a special token."""
        return list(self.encode_column(pa.array([text]))[0].tolist())

    def normalize(self, text: str) -> str:
        """The text of which the ids are: its NFC."""
        return str(self.other.plain.normalizer.normalize_str(text))

    def encode_column(self, texts: pa.Array) -> tuple[Tokens, Ints]:
        """The ids of all texts, one after another, and the number of ids of each text (int64 [rows]).

        texts: string [rows], without nulls.
        """
        kind = token_type(self.vocab_size)
        if self.words is not None:
            ids, lengths = self.words.encode(normalized(texts, self.normalize))
            return ids.astype(kind), lengths
        return self.other.encode_column(texts, kind)


class TextEncoder:
    """A tokenizer of any split, one text at a time, some five times as fast as Hugging Face's library."""

    def __init__(self, plain: Tokenizer, split: str, ranks: dict[bytes, int]) -> None:
        self.plain, self._split, self._ranks = plain, split, ranks

    @functools.cached_property
    def _fast(self) -> tiktoken.Encoding:
        return tiktoken.Encoding("winnow", pat_str=self._split, mergeable_ranks=self._ranks, special_tokens={})

    @functools.cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each token, by id."""
        sizes = np.zeros(max(self._ranks.values(), default=0) + 1, np.int64)
        sizes[list(self._ranks.values())] = [len(token) for token in self._ranks]
        return sizes

    def encode(self, text: str) -> list[int]:
        """The ids of one text."""
        if len(text) * 4 > LONG_BYTES and len(text.encode()) > LONG_BYTES:
            return self._exact(text)
        given = text if text.isascii() else self.plain.normalizer.normalize_str(text)
        ids = self._fast.encode_ordinary(given)
        # tiktoken leaves out what its pattern does not match, where the library makes a word of it.
        complete = int(self._sizes[ids].sum()) == (len(given) if given.isascii() else len(given.encode()))
        return ids if complete else self._exact(text)

    def _exact(self, text: str) -> list[int]:
        return list(self.plain.encode(text, add_special_tokens=False).ids)

    def encode_column(self, texts: pa.Array, kind: type[np.uint16] | type[np.uint32]) -> tuple[Tokens, Ints]:
        """The ids of all texts, one after another, and the number of ids of each text (int64 [rows])."""
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
    ranks, pairs = _ranks(spec, vocabulary, path)
    size = 1 + max(itertools.chain(vocabulary.values(), added.values()))
    special = {name: added[token] for name, token in names.items()}
    other = TextEncoder(plain, split, ranks)
    # `ignore_merges` takes a word that is a token for that token, whatever its merges are, as tiktoken does.
    if split != SPLIT or spec["model"].get("ignore_merges"):
        return Encoder(size, special, None, other)
    of_byte = [ranks[bytes([byte])] for byte in range(256)]
    words = WordEncoder(merge_table(of_byte, pairs), lambda word: other.encode(word.decode()))
    return Encoder(size, special, words, other)


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


def _ranks(spec: dict[str, Any], vocabulary: dict[str, int], path: str) -> tuple[dict[bytes, int], Ints]:
    """Each token's bytes -> its id, and each merge as the ids of left, right and both: int64 [merges, 3].

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
    lefts, rights = ([vocabulary[pair[side]] for pair in pairs] for side in range(2))
    return ranks, np.stack([np.array(ids, np.int64) for ids in (lefts, rights, merged)], axis=1)


def byte_characters() -> dict[int, str]:
    """Byte -> its character in byte-level BPE (GPT-2): printable Latin-1 as itself, the others from U+0100, in
    order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}

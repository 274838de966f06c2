"""Tokens: the tokenizer that a corpus is written in, and every record as the ids that the model is trained on.

    <|im_start|> condition-token... instruction-BPE <|im_end|>   |   response-BPE <|box_end|>

Byte-level BPE of Qwen's shape with single digits, as HRM-Text publishes it (sapientinc/data_io). The envelope is put
together from ids, never from text: a record that spells `<|im_end|>` is encoded as the ordinary text that it is.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tiktoken
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from filters.stage import mark_verdicts
from filters.verdict import Check, first_failure
from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, Step
from pipelines.ledger.run import Desk, Run, Target
from pipelines.ledger.storage import ShardRef
from pipelines.recipe import TokenizerSpec
from pipelines.records import CONDITIONS

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

SAMPLE_CHARS = 10_000
"""A tokenizer is trained on so many characters of each instruction and of each response."""

SAMPLE_BYTES = 32 << 20
"""...and on at most so much text of each source, so that it costs about ten core-seconds per source however large the
corpus is. Upstream caps documents per file instead."""

LONG_BYTES = 1 << 16
"""Longer texts are encoded by Hugging Face's library: tiktoken's regex overflows its stack on a million spaces."""

CHUNK_ROWS = 4096
"""Texts encoded at a time, which bounds the Python integers alive at once (some 36 bytes a token)."""

Ints = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint16 | np.uint32]


def train_tokenizer(run: Run, records: Manifest, settings: TokenizerSpec) -> Manifest:
    """Train byte-level BPE on the records, or take the `tokenizer.json` that `settings.path` names.

    The one shard is a `tokenizer.json` that Hugging Face's library loads (`rows`: its vocabulary). A trained one
    depends on the set of records alone: not on their order, nor how they lie in shards, nor on any thread count.

    Errors: InputError where a given tokenizer cannot be used, CheckFailed where there is no text to train on.
    """
    if settings.path is not None:
        data = _read(settings.path)
        checked = encoder(data, settings.path)
        given = Step("tokenizer", 1, {"given": storage.digest(settings.path)})
        return run.do(given, lambda desk: desk.map(functools.partial(_copy, data, checked.vocab_size), ["given"]))
    parameters = {"vocab_size": settings.vocab_size, "sample_bytes": SAMPLE_BYTES, "sample_chars": SAMPLE_CHARS}
    step = Step("tokenizer", 1, parameters, (records.key,))
    return run.do(step, lambda desk: _train(desk, records.shards, settings.vocab_size))


def tokenize(run: Run, records: Manifest, tokenizer: Manifest) -> Manifest:
    """Write every record as ids: one Arrow file per shard of records, in the same order.

    Columns: id string; instruction list<uint16>, with envelope and condition tokens; response list<uint16>, with its
    end token (uint32 where the vocabulary is larger than 65,536). A record whose response is empty is dropped.
    """
    step = Step("tokens", 1, {}, (records.key, tokenizer.key))
    kernel = functools.partial(_tokenize_shard, tokenizer.shards[0])
    return run.do(step, lambda desk: desk.map(kernel, records.shards), of=records)


def token_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest of uint16 and uint32 that holds every id below `vocab_size`; 65,536 ids fit in 16 bits."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


# ---- training -------------------------------------------------------------------------------------------------------


def _train(desk: Desk, shards: Sequence[ShardRef], vocab_size: int) -> list[Part]:
    # A record's digest says whether it is in the sample, so that the sample is a set which no order can change. First
    # the bytes per source and first two bytes of the digest, then how far each source's budget reaches.
    tallies = desk.map(_tally, shards, phase="tally")
    reach = _reach([storage.map_arrow(shard.path) for part in tallies for shard in part.shards], SAMPLE_BYTES)
    texts = desk.map(functools.partial(_draw_texts, reach), shards, phase="texts")
    paths = tuple(shard.path for part in texts for shard in part.shards if shard.rows)
    if not paths:
        raise CheckFailed("no record is left to train a tokenizer on")
    return desk.map(functools.partial(_fit, vocab_size), [paths])


def _sample_columns(shard: ShardRef) -> pa.Table:
    """source, bin (the first two bytes of the digest), instruction and response cut to SAMPLE_CHARS."""
    table = storage.read_parquet(shard.path, ["source", "digest", "instruction", "response"]).combine_chunks()
    digests = table["digest"].combine_chunks()
    leading = np.frombuffer(digests.buffers()[1] or b"", ">u2")[8 * digests.offset :: 8][: len(digests)]
    cut = [pc.utf8_slice_codeunits(table[name], 0, SAMPLE_CHARS) for name in ("instruction", "response")]
    columns = [table["source"], pa.array(leading.astype(np.int32)), *cut]
    return pa.table(columns, ["source", "bin", "instruction", "response"])


def _tally(shard: ShardRef, target: Target) -> Part:
    table = _sample_columns(shard)
    size = pc.add(pc.binary_length(table["instruction"]), pc.binary_length(table["response"])).cast(pa.int64())
    tally = table.select(["source", "bin"]).append_column("bytes", size).group_by(["source", "bin"], use_threads=False)
    return Part(shards=(storage.write_arrow(target.path(suffix=".arrow"), tally.aggregate([("bytes", "sum")])),))


def _reach(tallies: Sequence[pa.Table], budget: int) -> dict[str, int]:
    """Per source, how many bins from 0 have text that fits in `budget` bytes together; at least the first with text."""
    sizes: dict[str, Ints] = {}
    for tally in tallies:
        for source in pc.unique(tally["source"]).to_pylist():
            part = tally.filter(pc.equal(tally["source"], source))
            size = sizes.setdefault(source, np.zeros(1 << 16, np.int64))
            size[part["bin"].to_numpy()] += part["bytes_sum"].to_numpy()
    reach = {}
    for source, size in sorted(sizes.items()):
        fits = int(np.searchsorted(np.cumsum(size), budget, side="right"))
        reach[source] = max(fits, int(np.argmax(size > 0)) + 1)
    return reach


def _draw_texts(reach: dict[str, int], shard: ShardRef, target: Target) -> Part:
    table = _sample_columns(shard)
    sources = table["source"].combine_chunks().dictionary_encode()
    limits = np.array([reach[source] for source in sources.dictionary.to_pylist()], np.int64)
    drawn = table["bin"].to_numpy() < limits[sources.indices.to_numpy()]
    texts = table.filter(pa.array(drawn, pa.bool_())).select(["instruction", "response"])
    return Part(shards=(storage.write_parquet(target.path(), texts),))


def _fit(vocab_size: int, paths: tuple[str, ...], target: Target) -> Part:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(**byte_level)])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        # All 256 bytes, or a byte that the sample lacks could not be encoded at all.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    batches = itertools.chain.from_iterable(storage.read_parquet(path).to_batches(CHUNK_ROWS) for path in paths)
    tokenizer.train_from_iterator((column.to_pylist() for batch in batches for column in batch.columns), trainer)
    data = tokenizer.to_str(pretty=True).encode()
    return _copy(data, encoder(data, "the trained tokenizer").vocab_size, "trained", target)


def _copy(data: bytes, vocab_size: int, origin: str, target: Target) -> Part:
    path = storage.join(target.folder, "shards", "tokenizer.json")
    storage.write_bytes(path, data)
    ref = ShardRef(path=path, rows=vocab_size, bytes=len(data), digest=storage.digest(path))
    return Part(shards=(ref,), counts={f"vocabulary/{origin}": vocab_size})


# ---- encoding -------------------------------------------------------------------------------------------------------


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
        """The ids of one text, without envelope; no text gives a special token's id."""
        if len(text) * 4 > LONG_BYTES and len(text.encode()) > LONG_BYTES:
            return list(self.plain.encode(text, add_special_tokens=False).ids)
        return self.fast.encode_ordinary(text if text.isascii() else self.normalize(text))

    def encode_column(self, texts: pa.Array) -> tuple[Tokens, Ints]:
        """All texts' ids one after another, and how many each has (int64 [rows])."""
        kind = token_type(self.vocab_size)
        values, lengths = [np.empty(0, kind)], [np.empty(0, np.int64)]
        # The loop over rows is here because BPE takes one text at a time; it is some hundred times cheaper than BPE.
        for start in range(0, len(texts), CHUNK_ROWS):
            ids = [self.encode(text) for text in texts.slice(start, CHUNK_ROWS).to_pylist()]
            counts = np.fromiter(map(len, ids), np.int64, len(ids))
            values.append(np.fromiter(itertools.chain.from_iterable(ids), kind, int(counts.sum())))
            lengths.append(counts)
        return np.concatenate(values), np.concatenate(lengths)


def encoder(data: bytes, path: str) -> Encoder:
    """Read a `tokenizer.json`. Errors: InputError naming `path` and what it lacks or does differently."""
    try:
        spec = json.loads(data)
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
def load(tokenizer: ShardRef) -> Encoder:
    """The encoder of a tokenizer step's shard; kept, since a worker encodes many shards."""
    return encoder(storage.read_bytes(tokenizer.path), tokenizer.path)


def _read(path: str) -> bytes:
    if not storage.exists(path):
        raise InputError(f"{path}: no such tokenizer (relative paths are taken from the recipe's folder)")
    return storage.read_bytes(path)


def _without_special(spec: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with no added tokens: whatever a text spells, it encodes the spelling."""
    added = {token["content"] for token in spec["added_tokens"]}
    vocabulary = {token: index for token, index in spec["model"]["vocab"].items() if token not in added}
    return {**spec, "added_tokens": [], "post_processor": None, "model": {**spec["model"], "vocab": vocabulary}}


def _split(spec: dict[str, Any], path: str) -> str:
    """The split regex of a tokenizer of the one shape that both libraries encode alike."""
    model, steps = spec["model"], (spec.get("pre_tokenizer") or {}).get("pretokenizers", [])
    ways = {
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
    for problem, sound in ways.items():
        if not sound:
            raise InputError(f"{path}: {problem}; give byte-level BPE of Qwen's shape, or no `path` to train one")
    return str(steps[0]["pattern"]["Regex"])


def _ranks(spec: dict[str, Any], vocabulary: dict[str, int], path: str) -> dict[bytes, int]:
    """Each token's bytes -> its id, where the ids say all that the list of merges says.

    Hugging Face merges by the list of merges, tiktoken by the ids of what a merge makes. The two agree where each
    longer token is made by one merge and the merges stand in the order of the ids, which holds for any trained BPE.
    """
    to_byte = {character: byte for byte, character in _byte_characters().items()}
    try:
        ranks = {bytes(to_byte[character] for character in token): index for token, index in vocabulary.items()}
    except KeyError as error:
        raise InputError(f"{path}: its vocabulary is not byte-level (it holds {error.args[0]!r})") from None
    absent = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if absent:
        first = f"0x{absent[0]:02x}"
        raise InputError(f"{path}: {len(absent)} of the 256 bytes have no token ({first} first): text could be lost")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in spec["model"]["merges"]]
    made = [vocabulary.get(left + right, -1) for left, right in pairs]
    ordered = all(earlier < later for earlier, later in itertools.pairwise([-1, *made]))
    if not ordered or len(made) + 256 != len(ranks):
        raise InputError(f"{path}: its merges are not in the order of its ids, or some token has no merge or several")
    return ranks


def _byte_characters() -> dict[int, str]:
    """How byte-level BPE writes bytes (GPT-2): printable Latin-1 as itself, the others from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _tokenize_shard(tokenizer: ShardRef, shard: ShardRef, target: Target) -> Part:
    bpe = load(tokenizer)
    records = storage.read_parquet(shard.path)
    responses, lengths = bpe.encode_column(records["response"].combine_chunks())
    # A response without tokens has nothing to learn: with one token the loss would have no input of its own.
    empty = lengths == 0
    kept = records.filter(pa.array(~empty, pa.bool_()))
    columns = [kept["id"], _instructions(bpe, kept), _closed(responses, lengths[~empty], bpe.special["eoa"])]
    written = storage.write_arrow(target.path(suffix=".arrow"), pa.table(columns, ["id", "instruction", "response"]))
    if not empty.any():
        return Part(rows_in=shard.rows, shards=(written,))
    # The end token alone is 1 token; 2 are needed.
    check = Check("empty_response", empty, lengths + 1, 2)
    dropped = mark_verdicts(records.filter(pa.array(empty)), "tokens", first_failure([check]).filter(pa.array(empty)))
    lost = storage.write_parquet(target.path("dropped"), dropped)
    return Part(rows_in=shard.rows, shards=(written,), dropped=(lost,), counts={"tokens/empty_response": lost.rows})


def _instructions(bpe: Encoder, records: pa.Table) -> pa.ListArray:
    """boq, one condition token per tag in the order written, the instruction, eoq."""
    values, lengths = bpe.encode_column(records["instruction"].combine_chunks())
    conditions = records["condition"].combine_chunks().dictionary_encode()
    tags = [condition.split(",") for condition in conditions.dictionary.to_pylist()]
    assert all(tag in CONDITIONS for row in tags for tag in row), "conform lets no other condition through"
    openings = [[bpe.special["boq"], *(bpe.special[tag] for tag in row)] for row in tags]
    which = conditions.indices.to_numpy()
    opening = np.array([len(ids) for ids in openings], np.int64)[which]
    offsets = _offsets(opening + lengths + 1)
    made = np.empty(offsets[-1], values.dtype)
    text = np.ones(offsets[-1], np.bool_)
    for place in range(max(map(len, openings), default=0)):
        rows = opening > place
        at = offsets[:-1][rows] + place
        made[at] = np.array([ids[place] if place < len(ids) else 0 for ids in openings], values.dtype)[which[rows]]
        text[at] = False
    made[offsets[1:] - 1] = bpe.special["eoq"]
    text[offsets[1:] - 1] = False
    made[text] = values
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(made))


def _closed(values: Tokens, lengths: Ints, last: int) -> pa.ListArray:
    """Each row's ids with `last` after them."""
    offsets = _offsets(lengths + 1)
    made = np.empty(offsets[-1], values.dtype)
    text = np.ones(offsets[-1], np.bool_)
    made[offsets[1:] - 1] = last
    text[offsets[1:] - 1] = False
    made[text] = values
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(made))


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

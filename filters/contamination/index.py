"""Benchmark text as an index to scan against: every item is found by something rare, whatever its length.

Texts are compared as tokens (`dedup.shingles`: words, numbers, operators), so case, punctuation and line breaks hide
nothing and numbers are never normalised away. A seed is an n-gram of item text that at most CAP item texts share.
Where a 5-gram is more common than that, the 8-gram, 13-gram ... at its place are looked at instead, up to the whole
item; items of fewer than five tokens are seeds whole. Phrases that thousands of items share so cost nothing.

Tokens weigh what they tell: -log2 of the share of questions that hold them, and nothing inside a phrase of eight
tokens that more than FRAME_ITEMS questions share ("please choose the correct answer to the question").

The index takes about 50 bytes for each token of the benchmarks, and is mapped, not copied, by the workers of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.kernel import buffers, kernel
from dedup.shingles import BASE
from dedup.tokens import normalise, tokenize

LEVELS = (5, 8, 11, 13, 20, 34)
"""Lengths of seeds, in tokens; the longer ones only where the shorter is common."""
CAP = 8
"""A seed is common when more item texts than this share it; it is then posted for one of them only."""
FRAME, FRAME_ITEMS = 8, 16
"""A phrase of FRAME tokens in more than FRAME_ITEMS questions tells nothing."""

TRAIN_SPLITS = ("train", "dev")
"""Splits to learn from. `dev` is one where the benchmark has a `test` beside it (MMLU's few-shot examples)."""

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million half third "
    "quarter once twice double triple dozen"
)
"""Numbers written out: as much a part of what is asked as digits and operators."""
NEGATIONS = (
    "not no never except without neither nor cannot least most largest smallest greatest fewest highest lowest minimum "
    "maximum even odd"
)
"""The same for words that turn a question round."""

QUESTION, PASSAGE, CONTEXT = 0, 1, 2
"""Kinds of text: CONTEXT is choices and answers, which are looked for only beside a question."""

EXCERPT = 400
"""Characters of an item that are kept to be shown."""

WHOLE = 1 << 20
"""Added to the length in the key of a whole item, so that it is no n-gram's."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]
_U32 = npt.NDArray[np.uint32]
_U8 = npt.NDArray[np.uint8]
_F32 = npt.NDArray[np.float32]
_BASE = np.uint64(BASE)
_MIX, _SALT, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_ONE, _TWO = np.uint64(1), np.uint64(2)


class Arrays(NamedTuple):
    """The numbers of an index: T tokens, P distinct texts (parts), I items, S seeds.

    tokens uint64 [T]; weight float32 [T], bits; number uint8 [T], 1 for digits, operators, number words and negations;
    start int32 [T], where the token begins in its part's text; part int32 [T]; part_start int64 [P+1]; kind uint8 [P];
    ask int32 [P], the token where the last sentence begins; text uint8, text_start int64 [P+1]: the parts normalised,
    to confirm against.

    table uint64 [2 * slots]: seeds by open addressing, key and value side by side; a value is the place in `postings`
    (32 bits), how many there are (8), whether the seed is common (1), whether items that are seeds whole begin so (1).
    postings uint32 [S]: tokens.
    bits uint64: a filter before the table, of 5-grams; first uint64: the same for the beginnings of items shorter than
    that; whole int32: the lengths of items that are seeds whole.

    owner_start int64 [P+1], owner int32: the items of each question and passage. question, passage, answer int32 [I]:
    parts, -1 = none; choice_start int64 [I+1], choice int32: parts; shared int32 [I]: how many items of the benchmark
    ask the same question; bench int32 [I]; trained uint8 [I]: of a split to learn from.
    """

    tokens: _U64
    weight: _F32
    number: _U8
    start: _I32
    part: _I32
    part_start: _I64
    kind: _U8
    ask: _I32
    text: _U8
    text_start: _I64
    table: _U64
    postings: _U32
    bits: _U64
    first: _U64
    whole: _I32
    owner_start: _I64
    owner: _I32
    question: _I32
    passage: _I32
    answer: _I32
    choice_start: _I64
    choice: _I32
    shared: _I32
    bench: _I32
    trained: _U8


class Index(NamedTuple):
    """Benchmark text, ready to be scanned against. names: the benchmarks; ids, splits: of the items; asked: questions
    and passages as they are written, by part, cut at EXCERPT, to be shown; spelling: a question's characters (`spell`)
    where items without choices ask the same tokens and differ in marks ("[ ( { )"), else nothing."""

    arrays: Arrays
    names: pa.StringArray
    ids: pa.StringArray
    splits: pa.StringArray
    asked: pa.StringArray
    spelling: pa.StringArray

    @property
    def nbytes(self) -> int:
        """Bytes that the index takes in memory."""
        return sum(int(array.nbytes) for array in (*self.arrays, *self[1:]))


def build(benchmarks: Sequence[tuple[str, pa.Table]]) -> Index:
    """The index of named ITEM tables (id, split, question, answer, choices, passage). Same tables, same arrays.

    Time is about 1 s per million tokens of item text; memory while building about 200 bytes per token.
    """
    items = pa.concat_tables(
        [table.select(["id", "split", "question", "answer", "choices", "passage"]) for _, table in benchmarks]
    ).combine_chunks()
    lengths = [table.num_rows for _, table in benchmarks]
    bench = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    choices = _array(items["choices"])
    choice_text, choice_start = (
        choices.flatten(),
        np.concatenate([[0], np.cumsum(pc.list_value_length(choices).to_numpy(zero_copy_only=False))]).astype(np.int64),
    )

    texts: list[pa.Array] = []
    originals: list[pa.Array] = []
    found: list[_I32] = []
    base = 0
    # Several accepted answers stand between bars; the first is looked for.
    answers = pc.replace_substring_regex(_array(items["answer"]), r"^([^|]+)\|.*$", r"\1")
    groups = ([_array(items["question"])], [_array(items["passage"])], [answers, choice_text])
    kinds: list[_U8] = []
    for kind, columns in enumerate(groups):
        column = pa.concat_arrays([c.cast(pa.string()) for c in columns])
        part, distinct, original = _distinct(column, base)
        found.append(part)
        texts.append(distinct)
        originals.append(original)
        kinds.append(np.full(len(distinct), kind, np.uint8))
        base += len(distinct)
    question, passage = found[0], found[1]
    answer, choice = found[2][: items.num_rows], found[2][items.num_rows :]
    kind_of = np.concatenate(kinds)

    text = pa.concat_arrays(texts)
    data, text_start = buffers(text)
    data, text_start = data[text_start[0] : text_start[-1]], text_start - text_start[0]
    read = tokenize(text)
    assert len(read.offsets) == len(kind_of) + 1
    tokens, part_start = read.hash.copy(), read.offsets
    part = np.repeat(np.arange(len(kind_of), dtype=np.int32), np.diff(part_start))
    leading = data[text_start[part] + read.start] if len(tokens) else np.empty(0, np.uint8)
    operator = (read.end - read.start == 1) & np.isin(leading, np.frombuffer(b"+-*/^<>=%", np.uint8))
    digit = (leading >= 48) & (leading <= 57)
    number = (digit | operator | np.isin(tokens, turning_words())).astype(np.uint8)

    prefix = prefixes(tokens)
    asked = kind_of[part] == QUESTION if len(part) else np.empty(0, np.bool_)
    weight, frame = _weights(tokens, part, part_start, asked, prefix)
    shape = tokenize(pa.concat_arrays(originals))
    raw, raw_start = buffers(pa.concat_arrays(originals))
    assert np.array_equal(shape.offsets, part_start), "normalisation keeps every token"
    ask = _asks(raw, raw_start, shape.start, shape.end, part_start, frame)
    seeds = _seeds(tokens, part, part_start, kind_of, prefix)
    owner_start, owner = _owners(len(kind_of), question, passage)
    pair = bench.astype(np.int64) * (len(kind_of) + 1) + question
    _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
    arrays = Arrays(
        tokens, weight, number, read.start.copy(), part, part_start, kind_of, ask, data.copy(), text_start, *seeds,
        owner_start, owner, question, passage, answer, choice_start, choice, counts[inverse].astype(np.int32), bench,
        _trained(bench, _array(items["split"])),
    )  # fmt: skip
    for array in arrays:
        array.setflags(write=False)  # as they are when mapped from a file: one machine code serves both
    return Index(
        arrays, pa.array([name for name, _ in benchmarks], pa.string()), _array(items["id"]), _array(items["split"]),
        pc.binary_join_element_wise(
            pc.utf8_slice_codeunits(asked := pa.concat_arrays(originals[:CONTEXT]), 0, EXCERPT),
            pc.if_else(pc.greater(pc.utf8_length(asked), EXCERPT), " …", ""), "",
        ),
        _spellings(np.where(np.diff(choice_start) == 0, question, -1), _array(items["question"])),
    )  # fmt: skip


def spell(text: str) -> str:
    """A text's characters but for case and white space: what tells items apart whose tokens are the same."""
    return "".join(text.casefold().split())


def _spellings(question: _I32, texts: pa.StringArray) -> pa.StringArray:
    """See `Index`. question int32 [I]: parts, -1 for items that are told apart by their choices."""
    part, place, count = np.unique(question, return_inverse=True, return_counts=True)
    several = np.flatnonzero((count[place] > 1) & (part[place] >= 0))
    spelt = dict(zip(several.tolist(), map(spell, texts.take(pa.array(several)).to_pylist()), strict=True))
    ways: dict[int, set[str]] = {}
    for item, value in spelt.items():
        ways.setdefault(int(question[item]), set()).add(value)
    return pa.array(
        [spelt[n] if n in spelt and len(ways[q]) > 1 else "" for n, q in enumerate(question.tolist())], pa.string()
    )


def _trained(bench: _I32, splits: pa.StringArray) -> _U8:
    names = splits.to_numpy(zero_copy_only=False)
    trained = names == "train"
    for number in np.unique(bench):
        if "test" in names[bench == number]:
            trained |= (bench == number) & np.isin(names, TRAIN_SPLITS)
    return np.asarray(trained, np.uint8)


def turning_words() -> _U64:
    """The hashes of the words without which, or with which, a question is another."""
    return tokenize(pa.array([f"{NUMBER_WORDS} {NEGATIONS}"], pa.string())).hash


def _array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _distinct(column: pa.StringArray, base: int) -> tuple[_I32, pa.StringArray, pa.StringArray]:
    """Each text's part (-1 where it has no token), the distinct normalised texts, and an original of each."""
    encoded = normalise(column).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.full(len(encoded.dictionary), -1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    real = pc.binary_length(encoded.dictionary).to_numpy(zero_copy_only=False) > 0
    new = np.where(real, np.cumsum(real) - 1 + base, -1).astype(np.int32)
    return (
        new[codes] if len(codes) else np.empty(0, np.int32),
        encoded.dictionary.filter(pa.array(real)),
        column.take(pa.array(first[real])),
    )


def prefixes(tokens: _U64) -> _U64:
    """The polynomial of every prefix, uint64 [T+1]: the hash of tokens [i:i+n] is prefix[i+n] - prefix[i] * BASE**n."""
    prefix = np.empty(len(tokens) + 1, np.uint64)
    _fill_prefix(tokens, prefix)
    return prefix


@kernel
def _fill_prefix(tokens, prefix):  # type: ignore[no-untyped-def]
    prefix[0] = 0
    for i in range(len(tokens)):
        prefix[i + 1] = prefix[i] * _BASE + tokens[i]


@kernel
def key_of(value, length):  # type: ignore[no-untyped-def]
    """The table key of an n-gram: mixed, odd (0 marks an empty slot)."""
    h = (value ^ np.uint64(length) * _SALT) * _MIX
    h = (h ^ h >> _SHIFT) * _MIX
    return (h ^ h >> _SHIFT) | _ONE


def gram_keys(prefix: _U64, at: _I64, length: int, salt: int = 0) -> _U64:
    """The keys of the n-grams of `length` tokens at `at`."""
    return cast(_U64, _many_keys(prefix, at, length, np.uint64(pow(BASE, length, 1 << 64)), salt))


@kernel
def _many_keys(prefix, at, length, power, salt):  # type: ignore[no-untyped-def]
    keys = np.empty(len(at), np.uint64)
    for i in range(len(at)):
        keys[i] = key_of(prefix[at[i] + length] - prefix[at[i]] * power, length + salt)
    return keys


def _spread(keys: _U64, parts: _I32) -> tuple[_I64, _I64, _I64]:
    """Equal keys side by side: the order, where each group begins in it, and how many distinct parts each holds."""
    order = np.argsort(keys, kind="stable")
    ordered, owners = keys[order], parts[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    begin = np.flatnonzero(new)
    fresh = new.copy()
    fresh[1:] |= owners[1:] != owners[:-1]
    return order, begin, np.add.reduceat(fresh.astype(np.int64), begin) if len(begin) else np.empty(0, np.int64)


def _weights(
    tokens: _U64, part: _I32, part_start: _I64, asked: npt.NDArray[np.bool_], prefix: _U64
) -> tuple[_F32, npt.NDArray[np.bool_]]:
    """Bits per token, and which tokens lie in frames. The background is the questions, for other text too."""
    questions = max(len(np.unique(part[asked])), 1)
    distinct, inverse = np.unique(tokens, return_inverse=True)
    order, begin, held = _spread(tokens[asked], part[asked])
    df = np.ones(len(distinct), np.float64)
    df[np.searchsorted(distinct, tokens[asked][order][begin])] = held
    weight = (
        np.clip(np.log2((questions + 1) / df), 0.05, 16.0).astype(np.float32)[inverse]
        if len(tokens)
        else np.empty(0, np.float32)
    )

    frame = np.zeros(len(tokens), np.bool_)
    ends = part_start[part + 1] if len(part) else np.empty(0, np.int64)
    at = np.flatnonzero(asked & (np.arange(len(tokens)) + FRAME <= ends))
    order, begin, held = _spread(gram_keys(prefix, at, FRAME), part[at])
    sizes = np.diff(np.append(begin, len(order)))
    for offset in range(FRAME):
        frame[at[order][np.repeat(held > FRAME_ITEMS, sizes)] + offset] = True
    # A question that is frame and nothing else keeps its weights: it must be told from others by what it has.
    total, left = np.add.reduceat(weight, part_start[:-1]), np.add.reduceat(np.where(frame, 0, weight), part_start[:-1])
    frame &= (left > 0.1 * total)[part]
    weight[frame] = 0
    return weight, frame


@kernel
def _asks(data, offsets, starts, ends, part_start, frame):  # type: ignore[no-untyped-def]
    """For each part the token where its last sentence of three tokens or more begins, frames at its end left aside."""
    asks = np.zeros(len(part_start) - 1, np.int32)
    for p in range(len(asks)):
        begin, last = part_start[p], part_start[p + 1]
        while last > begin and frame[last - 1]:
            last -= 1
        for t in range(last - 3, begin, -1):
            mark = False
            for i in range(offsets[p] + ends[t - 1], offsets[p] + starts[t]):
                mark |= data[i] == 46 or data[i] == 63 or data[i] == 33 or data[i] == 10
            if mark:
                asks[p] = t - begin
                break
    return asks


def _seeds(tokens: _U64, part: _I32, part_start: _I64, kind: _U8, prefix: _U64) -> tuple[_U64, _U32, _U64, _U64, _I32]:
    """The seed table: see the module's first lines."""
    ends = part_start[part + 1] if len(part) else np.empty(0, np.int64)
    seeded = kind[part] != CONTEXT if len(part) else np.empty(0, np.bool_)
    at = np.flatnonzero(seeded)
    found = np.zeros(len(kind), np.bool_)
    keys, values, postings = [], [], []
    posted = 0
    short: _U64 = np.empty(0, np.uint64)

    def add(key: _U64, places: _I64) -> _I64:
        """Post `places` under their keys; the places whose key is common."""
        nonlocal posted
        order, begin, held = _spread(key, part[places])
        sizes = np.diff(np.append(begin, len(order)))
        common = held > CAP
        take = np.where(common, 1, np.minimum(sizes, 2 * CAP))
        rank = np.arange(len(order)) - np.repeat(begin, sizes)
        postings.append(places[order][rank < np.repeat(take, sizes)].astype(np.uint32))
        keys.append(key[order][begin])
        values.append(
            ((posted + np.cumsum(take) - take) | take << 32 | common.astype(np.int64) << 40).astype(np.uint64)
        )
        posted += int(take.sum())
        common_place = np.repeat(common, sizes)
        found[part[places[order][~common_place]]] = True
        return np.sort(places[order][common_place])

    for level, length in enumerate(LEVELS):
        at = at[at + length <= ends[at]]
        key = gram_keys(prefix, at, length)
        if level == 0:
            short = key
        at = add(key, at)
    rest = np.flatnonzero((kind != CONTEXT) & ~found)
    size = np.diff(part_start)[rest]
    whole = np.unique(size).astype(np.int32)
    for length in whole.tolist():
        places = part_start[:-1][rest[size == length]]
        add(gram_keys(prefix, places, length, WHOLE), places)
    # The 5-grams that such items begin with say so, or every common 5-gram would have to be tried at every length.
    opening = gram_keys(prefix, part_start[:-1][rest[size >= LEVELS[0]]], LEVELS[0])
    values[0][np.searchsorted(keys[0], np.unique(opening))] |= _ONE << np.uint64(41)
    # What begins like an item shorter than the shortest seed: a bit per first token (items of one) or first two.
    first = np.zeros(2048, np.uint64)
    for length in whole[whole < LEVELS[0]].tolist():
        _set_bits(first, gram_keys(prefix, part_start[:-1][rest[size == length]], min(length, 2)))

    table = np.zeros(2 << max(4, int(4 * sum(len(key) for key in keys) // 3).bit_length()), np.uint64)
    _insert(table, np.concatenate(keys), np.concatenate(values))
    bits = np.zeros(1 << max(4, int(len(short) // 4).bit_length()), np.uint64)
    _set_bits(bits, short)
    return table, np.concatenate(postings), bits, first, whole


@kernel
def _insert(table, keys, values):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(table) // 2 - 1)
    for i in range(len(keys)):
        slot = keys[i] >> _ONE & mask
        while table[_TWO * slot] != 0:
            slot = (slot + _ONE) & mask
        table[_TWO * slot], table[_TWO * slot + _ONE] = keys[i], values[i]


@kernel
def _set_bits(bits, keys):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(bits) - 1)
    for k in keys:
        bits[k >> np.uint64(20) & mask] |= _ONE << (k >> np.uint64(58))


def _owners(parts: int, question: _I32, passage: _I32) -> tuple[_I64, _I32]:
    """The items of each question and passage, in order."""
    item = np.concatenate([np.arange(len(question)), np.arange(len(passage))])
    part = np.concatenate([question, passage]).astype(np.int64)
    item, part = item[part >= 0], part[part >= 0]
    order = np.argsort(part, kind="stable")
    counts = np.bincount(part, minlength=parts)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), item[order].astype(np.int32)


def to_table(index: Index) -> pa.Table:
    """The index as an Arrow table of one row, so that a file of it can be mapped into every worker's memory."""
    columns: dict[str, pa.Array] = {name: pa.array(value) for name, value in index.arrays._asdict().items()}
    columns |= {name: getattr(index, name) for name in Index._fields[1:]}
    one = {
        name: pa.LargeListArray.from_arrays(pa.array([0, len(value)], pa.int64()), value)
        for name, value in columns.items()
    }
    return pa.table(one)


def from_table(table: pa.Table) -> Index:
    """The way back, without a copy."""

    def values(name: str) -> Any:
        return table[name].chunk(0).flatten()

    arrays = Arrays(*(values(name).to_numpy(zero_copy_only=True) for name in Arrays._fields))
    return Index(arrays, *(values(name) for name in Index._fields[1:]))

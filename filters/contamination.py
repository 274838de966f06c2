"""Which evaluation items does a text hold? One exhaustive scan against an index of all benchmark text.

What is particular here:

- Texts are compared as tokens (`dedup.shingles`: words, numbers, operators), so case, punctuation and line breaks hide
  nothing, and numbers are never normalised away.
- A seed is an n-gram of item text that at most CAP items share. Where a 5-gram is more common than that, the 8-gram,
  13-gram ... at its place are looked at instead, up to the whole item; items of fewer than five tokens are seeds whole.
  So every item is found by something rare, whatever its length, and frames that thousands of items share cost nothing.
- Seeds that match are extended to runs, runs of one item are aligned with the text around them (a longest common
  subsequence that prefers contiguous runs), and the aligned tokens are confirmed byte by byte. No verdict rests on a hash.
- Choices and answers are looked for one by one near the question, so their order and lettering do not matter.
- Tokens weigh what they tell: -log2 of the share of questions that hold them, and nothing inside a phrase of eight
  tokens that more than FRAME_ITEMS questions share.

`scan` gives one row of measures per (text, item); a *rule* reads them (`RULES`), and `judge` turns them into classes:

    test_leak       the rule finds the item of an evaluation split in the text
    train_split     the same for an item of the benchmark's own training split
    shared_passage  the passage (or the body of a long question), but not what is asked about it
    template        the wording with other numbers, operators or words

Bounds: the index takes about 60 bytes per benchmark token; a scan holds about 60 bytes per token of the shard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.kernel import buffers, kernel
from dedup.shingles import BASE, normalise, tokenize

LEVELS = (5, 8, 13, 21, 34)
"""Lengths of seeds, in tokens; the longer ones only where the shorter is common."""
CAP = 8
"""A seed is common when more item texts than this share it; it is then posted for one of them only."""
FRAME_ITEMS = 16
"""A phrase of eight tokens in more questions than this is a frame: its tokens weigh nothing."""
RUN = 8
"""A shared run this long (or a whole shorter item) makes a hit worth measuring: the shortest run any rule reads."""
PASSAGE_RUN = 13
"""The same for passages, which are public text and share phrases with everything."""

LEAK_COVER = 0.9
"""Share of the question's weight that must be there (all of it, for questions of fewer than 13 tokens)."""
ASK_COVER = 0.8
"""The same for the last sentence, which is what is asked: a passage without its question is no leak."""
WHOLE_TOKENS = 13
"""A question this long identifies an item by itself."""
WHOLE_BITS = 30.0
"""A shorter one does when its tokens carry this many bits ..."""
CONTEXT_BITS = 14.0
"""... or, with its answer or half of its choices near by, this many, the answer's and choices' included."""
NEAR = 50
"""Tokens beside the question within which its answer is near; choices may lie as much farther as they are long."""
SHARED = 3
"""A question that more items of one benchmark share identifies none of them without choices, answer or passage."""

SWAPPED_BITS = 6.0
"""A word that tells this much, put in place of another, makes another question ("the domain" for "the range")."""

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    "hundred", "thousand", "million", "half", "third", "quarter", "once", "twice", "double", "triple", "dozen",
)  # fmt: skip
"""Numbers written out: as much a part of what is asked as digits and operators."""
NEGATIONS = ("not", "no", "never", "except", "without", "neither", "nor", "cannot", "least", "most")
"""The same for words that turn a question round."""

CLASSES = ("test_leak", "train_split", "shared_passage", "template")
TRAIN_SPLITS = ("train", "dev")
"""Splits that are there to be learnt from. `dev` is, where the benchmark has a `test` beside it (MMLU's few-shot examples)."""

QUESTION, PASSAGE, CONTEXT = 0, 1, 2
COMMON_ROWS = 10
"""GPT-3: a 13-gram in more training documents than this is common text."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]
_U32 = npt.NDArray[np.uint32]
_U8 = npt.NDArray[np.uint8]
_F32 = npt.NDArray[np.float32]
_BASE = np.uint64(BASE)
_MIX, _SALT, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_ONE, _63, _6 = np.uint64(1), np.uint64(63), np.uint64(6)
_WHOLE = 1 << 20  # added to the length in a whole item's key, so that it is no n-gram's
_CELLS = 1 << 22  # the largest alignment, in cells; beyond it the runs themselves are taken


class Index(NamedTuple):
    """Benchmark text, ready to be scanned against. T tokens, P distinct texts (parts), I items, S seeds.

    tokens uint64 [T]; weight float32 [T] in bits; number uint8 [T] (2 digits, 1 operators, number words and negations); part int32 [T];
    part_start int64 [P+1]; kind uint8 [P]; ask int32 [P], the token at which the last sentence begins;
    text uint8, text_start int64 [P+1]: the parts normalised, to confirm against.
    key uint64, begin uint32, posts uint8, more uint8 [slots]: open addressing; postings uint32 [S] into tokens.
    filter uint64: a bit per 5-gram; first uint64: bits for the beginnings of items shorter than that; whole int32: lengths
    of the items that are seeds whole.
    owner_start int64 [P+1], owner int32: the items of each question and passage.
    question, passage, answer int32 [I] parts, -1 = none; choice_start int64 [I+1], choice int32 parts; shared int32 [I]:
    how many items of the benchmark ask the same question; bench int32 [I]; trained uint8 [I]: of a split to learn from. names, ids, splits: strings.
    """

    tokens: _U64
    weight: _F32
    number: _U8
    part: _I32
    part_start: _I64
    kind: _U8
    ask: _I32
    text: _U8
    text_start: _I64
    key: _U64
    begin: _U32
    posts: _U8
    more: _U8
    postings: _U32
    filter: _U64
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
    names: pa.StringArray
    ids: pa.StringArray
    splits: pa.StringArray

    @property
    def nbytes(self) -> int:
        """Bytes that the index takes in memory."""
        return sum(int(array.nbytes) for array in self)


HITS = pa.schema(
    [
        ("row", pa.int32()), ("item", pa.int32()), ("kind", pa.uint8()),
        ("cover", pa.float32()), ("body", pa.float32()), ("ask", pa.float32()), ("numbers", pa.bool_()), ("swapped", pa.float32()),
        ("bits", pa.float32()), ("context_bits", pa.float32()), ("context", pa.bool_()), ("exact", pa.bool_()),
        ("tokens", pa.int32()), ("row_tokens", pa.int32()), ("longest", pa.int32()), ("common", pa.int32()),
        ("cover8", pa.int32()), ("cover11", pa.int32()), ("cover13", pa.int32()), ("cover20", pa.int32()),
        ("grams8", pa.int32()), ("span_tokens", pa.int32()), ("bounded", pa.bool_()), ("field", pa.uint8()), ("start", pa.int32()), ("end", pa.int32()),
        ("grams13", pa.list_(pa.uint64())),
    ]
)  # fmt: skip
"""What `scan` measures for one text and one item.

kind: QUESTION or PASSAGE, the part of the item that was found. cover, body, ask: shares (0 to 1) of the weight found of
all of it, of all but its last sentence, and of its last sentence. numbers: every number, operator and negation of it was found, and no other between them;
swapped: the most bits of a word of it that other words stand in place of.
bits: what the tokens found tell; context_bits: what choices, answer and passage near by add; context: enough of those were found.
exact: one field of the record holds these tokens and no others. tokens, row_tokens: lengths. longest: the longest
shared run; common: shared tokens in order; span_tokens: tokens of the text from the first to the last of them; bounded: sentence ends stand
on both sides of the span; coverN: the item's tokens in shared runs of N or more; grams8: its 8-grams found.
field 0 instruction, 1 response; start, end: bytes of the span in that field. grams13: hashes of the 13-grams shared.
"""


# ---------------------------------------------------------------------------------------------------------------- index


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
    single = read.end - read.start == 1
    digit = (leading >= 48) & (leading <= 57)
    words = _turning()
    number = np.where(
        digit, 2, (single & np.isin(leading, np.frombuffer(b"+-*/^<>=%", np.uint8))) | np.isin(tokens, words)
    ).astype(np.uint8)

    prefix = _prefix(tokens)
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
    made = Index(
        tokens, weight, number, part, part_start, kind_of, ask, data.copy(), text_start, *seeds,
        owner_start, owner, question, passage, answer, choice_start, choice,
        counts[inverse].astype(np.int32) if len(inverse) else np.empty(0, np.int32), bench,
        _trained(bench, _array(items["split"])), pa.array([name for name, _ in benchmarks], pa.string()), _array(items["id"]), _array(items["split"]),
    )  # fmt: skip
    for array in made:
        if isinstance(array, np.ndarray):
            array.setflags(write=False)  # as they are when mapped from a file: one machine code for both
    return made


def _trained(bench: _I32, splits: pa.StringArray) -> _U8:
    names = splits.to_numpy(zero_copy_only=False)
    trained = names == "train"
    for number in np.unique(bench):
        if "test" in names[bench == number]:
            trained |= (bench == number) & np.isin(names, TRAIN_SPLITS)
    return np.asarray(trained, np.uint8)


def _turning() -> _U64:
    """The hashes of the words without which, or with which, a question is another."""
    return tokenize(pa.array([" ".join((*NUMBER_WORDS, *NEGATIONS))], pa.string())).hash


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


def _prefix(tokens: _U64) -> _U64:
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
def _key(value, length):  # type: ignore[no-untyped-def]
    """The table key of an n-gram: mixed, odd (0 marks an empty slot)."""
    h = (value ^ np.uint64(length) * _SALT) * _MIX
    h = (h ^ h >> _SHIFT) * _MIX
    return (h ^ h >> _SHIFT) | _ONE


def _keys(prefix: _U64, at: _I64, length: int) -> _U64:
    return cast(_U64, _many_keys(prefix, at, length, np.uint64(pow(BASE, length, 1 << 64))))


@kernel
def _many_keys(prefix, at, length, power):  # type: ignore[no-untyped-def]
    keys = np.empty(len(at), np.uint64)
    for i in range(len(at)):
        keys[i] = _key(prefix[at[i] + length] - prefix[at[i]] * power, length)
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
    """Bits per token, and which tokens lie in frames. The background is the questions; other text is weighed by it too."""
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
    at = np.flatnonzero(asked & (np.arange(len(tokens)) + RUN <= ends))
    order, begin, held = _spread(_keys(prefix, at, RUN), part[at])
    sizes = np.diff(np.append(begin, len(order)))
    for offset in range(RUN):
        frame[at[order][np.repeat(held > FRAME_ITEMS, sizes)] + offset] = True
    # A question that is frame and nothing else keeps its weights: it must be told from others by what it has.
    total, left = np.add.reduceat(weight, part_start[:-1]), np.add.reduceat(np.where(frame, 0, weight), part_start[:-1])
    frame &= (left > 0.1 * total)[part]
    weight[frame] = 0
    return weight, frame


@kernel
def _asks(data, offsets, starts, ends, part_start, frame):  # type: ignore[no-untyped-def]
    """For each part the token at which its last sentence of three tokens or more begins, frames at its end left aside."""
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


def _seeds(
    tokens: _U64, part: _I32, part_start: _I64, kind: _U8, prefix: _U64
) -> tuple[_U64, _U32, _U8, _U8, _U32, _U64, _U64, _I32]:
    """The seed table: see the module's first lines."""
    ends = part_start[part + 1] if len(part) else np.empty(0, np.int64)
    seeded = kind[part] != CONTEXT if len(part) else np.empty(0, np.bool_)
    at = np.flatnonzero(seeded)
    found = np.zeros(len(kind), np.bool_)
    keys, begins, counts, mores, postings = [], [], [], [], []
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
        counts.append(take.astype(np.uint8))
        mores.append(common.astype(np.uint8))
        begins.append((posted + np.cumsum(take) - take).astype(np.uint32))
        posted += int(take.sum())
        common_place = np.repeat(common, sizes)
        found[part[places[order][~common_place]]] = True
        return np.sort(places[order][common_place])

    for level, length in enumerate(LEVELS):
        at = at[at + length <= ends[at]]
        key = _keys(prefix, at, length)
        if level == 0:
            short = key
        at = add(key, at)
    rest = np.flatnonzero((kind != CONTEXT) & ~found)
    size = np.diff(part_start)[rest]
    whole = np.unique(size).astype(np.int32)
    for length in whole.tolist():
        places = part_start[:-1][rest[size == length]]
        add(_whole_keys(prefix, places, length), places)
    # What begins like an item shorter than the shortest seed: a bit per first token (items of one) or first two.
    first = np.zeros(2048, np.uint64)
    for length in whole[whole < LEVELS[0]].tolist():
        _set_bits(first, _keys(prefix, part_start[:-1][rest[size == length]], min(length, 2)))

    total = sum(len(k) for k in keys)
    slots = 1 << max(4, int(2 * total).bit_length())
    table = np.zeros(slots, np.uint64), np.zeros(slots, np.uint32), np.zeros(slots, np.uint8), np.zeros(slots, np.uint8)
    _insert(np.concatenate(keys), np.concatenate(begins), np.concatenate(counts), np.concatenate(mores), *table)
    bits = np.zeros(1 << max(4, int(len(short) // 4).bit_length()), np.uint64)
    _set_bits(bits, short)
    return *table, np.concatenate(postings), bits, first, whole


def _whole_keys(prefix: _U64, at: _I64, length: int) -> _U64:
    return cast(_U64, _many_whole_keys(prefix, at, length, np.uint64(pow(BASE, length, 1 << 64))))


@kernel
def _many_whole_keys(prefix, at, length, power):  # type: ignore[no-untyped-def]
    keys = np.empty(len(at), np.uint64)
    for i in range(len(at)):
        keys[i] = _key(prefix[at[i] + length] - prefix[at[i]] * power, length + _WHOLE)
    return keys


@kernel
def _insert(keys, begins, counts, mores, key, begin, count, more):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(key) - 1)
    for i in range(len(keys)):
        slot = keys[i] >> _ONE & mask
        while key[slot] != 0:
            slot = (slot + _ONE) & mask
        key[slot], begin[slot], count[slot], more[slot] = keys[i], begins[i], counts[i], mores[i]


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
    columns = {}
    for name, value in zip(Index._fields, index, strict=True):
        values = value if isinstance(value, pa.Array) else pa.array(value)
        columns[name] = pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)
    return pa.table(columns)


def from_table(table: pa.Table) -> Index:
    """The way back, without a copy."""

    def field(name: str) -> Any:
        values = table[name].chunk(0).flatten()
        return values if pa.types.is_string(values.type) else values.to_numpy(zero_copy_only=True)

    return Index(*(field(name) for name in Index._fields))


# ----------------------------------------------------------------------------------------------------------------- scan


def scan(index: Index, instruction: pa.StringArray, response: pa.StringArray) -> pa.Table:
    """Measure every item that the texts [rows] hold anything of: a HITS table, by row, then by part, then by item.

    A record's two fields are read as one text, so an item that begins in one and ends in the other is found.
    """
    left, right = tokenize(instruction), tokenize(response)
    offsets = left.offsets + right.offsets
    stream = np.empty(int(offsets[-1]), np.uint64)
    _interleave(left.hash, left.offsets, right.hash, right.offsets, offsets, stream)
    prefix = _prefix(stream)
    powers = np.array([pow(BASE, length, 1 << 64) for length in LEVELS], np.uint64)
    whole_powers = np.array([pow(BASE, length, 1 << 64) for length in index.whole.tolist()], np.uint64)
    pairs, runs = _find(
        stream, offsets, prefix, powers, np.array(LEVELS, np.int64), whole_powers, index.tokens, index.weight, index.part, index.part_start,
        index.kind, index.key, index.begin, index.posts, index.more, index.postings, index.filter, index.first, index.whole,
    )  # fmt: skip
    if len(pairs) == 0:
        return HITS.empty_table()
    split, turning = np.diff(left.offsets), _turning()
    digits = _digits(
        left.start, left.offsets, *buffers(instruction), right.start, right.offsets, *buffers(response), offsets
    )

    def weigh() -> tuple[Any, ...]:
        measured = _measure(
            pairs,
            runs,
            stream,
            turning,
            offsets,
            split,
            digits,
            index.weight,
            index.number,
            index.part_start,
            index.kind,
            index.ask,
        )
        near = _contexts(
            pairs, measured[2], measured[0], stream, offsets, index.tokens, index.weight, index.part_start, index.kind, index.owner_start,
            index.owner, index.passage, index.answer, index.choice_start, index.choice,
        )  # fmt: skip
        return *measured, *near

    shares, _, _, which, _, _, context = weigh()
    # A few words that make a whole question ("the heart has") are a hit only with something beside them that says so.
    told = (np.diff(index.part_start)[pairs[:, 1]] >= RUN) | (shares[:, 4] >= WHOLE_BITS) | (shares[:, 5] > 0)
    told[which[context]] = True
    pairs = pairs[told]
    if len(pairs) == 0:
        return HITS.empty_table()
    if _cut_unequal(index, instruction, response, offsets, split, pairs, runs):
        pairs = pairs[np.add.reduceat(np.append(runs[:, 2], 0), pairs[:, 2]) > 0]
    measures, numbers, spans, which, item, context_bits, context = weigh()
    fields, starts, ends, bounded = _places(
        pairs,
        spans,
        offsets,
        left.offsets,
        left.start,
        left.end,
        *buffers(instruction),
        right.offsets,
        right.start,
        right.end,
        *buffers(response),
    )
    grams, gram_start = _grams13(pairs, runs, prefix, np.uint64(pow(BASE, 13, 1 << 64)))
    whole, of = measures[which], which
    integer = {name: pa.array(numbers[of, i].astype(np.int32)) for i, name in enumerate(_NUMBERS)}
    columns = {
        "row": pa.array(pairs[of, 0].astype(np.int32)), "item": pa.array(item), "kind": pa.array(index.kind[pairs[of, 1]]),
        "cover": pa.array(whole[:, 0]), "body": pa.array(whole[:, 1]), "ask": pa.array(whole[:, 2]),
        "numbers": pa.array(whole[:, 3] > 0), "swapped": pa.array(whole[:, 6]), "bits": pa.array(whole[:, 4]), "context_bits": pa.array(context_bits),
        "context": pa.array(context), "exact": pa.array(whole[:, 5] > 0), **integer,
        "bounded": pa.array(bounded[of]), "field": pa.array(fields[of]), "start": pa.array(starts[of]), "end": pa.array(ends[of]),
        "grams13": pa.ListArray.from_arrays(pa.array(gram_start.astype(np.int32)), pa.array(grams)).take(pa.array(of)),
    }  # fmt: skip
    return pa.table([columns[name] for name in HITS.names], schema=HITS)


_NUMBERS = (
    "tokens",
    "row_tokens",
    "longest",
    "common",
    "cover8",
    "cover11",
    "cover13",
    "cover20",
    "grams8",
    "span_tokens",
)


@kernel
def _interleave(left, left_offsets, right, right_offsets, offsets, stream):  # type: ignore[no-untyped-def]
    for row in range(len(offsets) - 1):
        at = offsets[row]
        for i in range(left_offsets[row], left_offsets[row + 1]):
            stream[at] = left[i]
            at += 1
        for i in range(right_offsets[row], right_offsets[row + 1]):
            stream[at] = right[i]
            at += 1


@kernel
def _digits(left_start, left_offsets, left_data, left_at, right_start, right_offsets, right_data, right_at, offsets):  # type: ignore[no-untyped-def]
    """Whether each token of the stream begins with a digit: uint8."""
    digits = np.empty(offsets[-1], np.uint8)
    for row in range(len(offsets) - 1):
        t = offsets[row]
        for i in range(left_offsets[row], left_offsets[row + 1]):
            c = left_data[left_at[row] + left_start[i]]
            digits[t] = c >= 48 and c <= 57
            t += 1
        for i in range(right_offsets[row], right_offsets[row + 1]):
            c = right_data[right_at[row] + right_start[i]]
            digits[t] = c >= 48 and c <= 57
            t += 1
    return digits


@kernel
def _probe(key, wanted):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(key) - 1)
    slot = wanted >> _ONE & mask
    while key[slot] != 0:
        if key[slot] == wanted:
            return np.int64(slot)
        slot = (slot + _ONE) & mask
    return np.int64(-1)


@kernel
def _grow(array):  # type: ignore[no-untyped-def]
    larger = np.empty((2 * array.shape[0], array.shape[1]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


@kernel
def _extend(stream, begin, end, tokens, part, part_start, i, q, seen, row, runs, count):  # type: ignore[no-untyped-def]
    """Extend a seed to the longest run and note it as (part, i, q, length), unless the run is noted already."""
    if stream[i] != tokens[q]:
        return runs, count
    slot = (q - i) & 4095
    if seen[slot, 0] == row and seen[slot, 1] == q - i and i < seen[slot, 2]:
        return runs, count
    p = part[q]
    low, high = part_start[p], part_start[p + 1]
    length = 1
    while i + length < end and q + length < high and stream[i + length] == tokens[q + length]:
        length += 1
    while i > begin and q > low and stream[i - 1] == tokens[q - 1]:
        i -= 1
        q -= 1
        length += 1
    seen[slot, 0], seen[slot, 1], seen[slot, 2] = row, q - i, i + length
    if count == len(runs):
        runs = _grow(runs)
    runs[count, 0], runs[count, 1], runs[count, 2], runs[count, 3] = p, i, q, length
    return runs, count + 1


@kernel
def _wholes(  # type: ignore[no-untyped-def]
    stream, low, high, prefix, powers, tokens, part, part_start, key, begin, count, postings, whole, i, w_from, w_to, seen, row, runs, n,
):  # fmt: skip
    """Look up the whole items of lengths whole[w_from:w_to] at token i."""
    for w in range(w_from, w_to):
        if i + whole[w] > high:
            break
        slot = _probe(key, _key(prefix[i + whole[w]] - prefix[i] * powers[w], whole[w] + _WHOLE))
        if slot >= 0:
            for k in range(begin[slot], begin[slot] + count[slot]):
                runs, n = _extend(
                    stream, low, high, tokens, part, part_start, i, np.int64(postings[k]), seen, row, runs, n
                )
    return runs, n


@kernel
def _find(  # type: ignore[no-untyped-def]
    stream, offsets, prefix, powers, levels, whole_powers, tokens, weight, part, part_start, kind,
    key, begin, count, more, postings, bits, first, whole,
):  # fmt: skip
    """Pairs int64 [n, 4] (row, part, first run, end of runs) and their runs int64 [m, 3] (i, q, length)."""
    pairs, pair_count = np.empty((64, 4), np.int64), 0
    kept, kept_count = np.empty((256, 3), np.int64), 0
    runs = np.empty((256, 4), np.int64)
    seen = np.full((4096, 3), -1, np.int64)
    longest_part = 1
    for p in range(len(kind)):
        longest_part = max(longest_part, part_start[p + 1] - part_start[p])
    mark = np.zeros(longest_part, np.uint8)
    mask = np.uint64(len(bits) - 1)
    shortest = levels[0]
    long_wholes = 0
    while long_wholes < len(whole) and whole[long_wholes] < shortest:
        long_wholes += 1
    for row in range(len(offsets) - 1):
        low, high = offsets[row], offsets[row + 1]
        n = 0
        for i in range(low, high):
            short = False
            for length in range(1, 3):
                if i + length <= high:
                    h = _key(stream[i] if length == 1 else stream[i] * _BASE + stream[i + 1], length)
                    if first[h >> np.uint64(20) & np.uint64(2047)] >> (h >> np.uint64(58)) & _ONE:
                        short = True
            if short:
                runs, n = _wholes(
                    stream,
                    low,
                    high,
                    prefix,
                    whole_powers,
                    tokens,
                    part,
                    part_start,
                    key,
                    begin,
                    count,
                    postings,
                    whole,
                    i,
                    0,
                    long_wholes,
                    seen,
                    row,
                    runs,
                    n,
                )
            if i + shortest > high:
                continue
            h = _key(prefix[i + shortest] - prefix[i] * powers[0], shortest)
            if not bits[h >> np.uint64(20) & mask] >> (h >> np.uint64(58)) & _ONE:
                continue
            for level in range(len(levels)):
                if i + levels[level] > high:
                    break
                if level > 0:
                    h = _key(prefix[i + levels[level]] - prefix[i] * powers[level], levels[level])
                slot = _probe(key, h)
                if slot < 0:
                    break
                for k in range(begin[slot], begin[slot] + count[slot]):
                    runs, n = _extend(
                        stream, low, high, tokens, part, part_start, i, np.int64(postings[k]), seen, row, runs, n
                    )
                if not more[slot]:
                    break
                if level == 0:
                    runs, n = _wholes(
                        stream, low, high, prefix, whole_powers, tokens, part, part_start, key, begin, count, postings, whole, i, long_wholes, len(whole),
                        seen, row, runs, n,
                    )  # fmt: skip
        if n == 0:
            continue
        # Order by part, then place: the order in which parts are reported must not depend on which seed came first.
        order = np.argsort(runs[:n, 1], kind="mergesort")
        order = order[np.argsort(runs[:n, 0][order], kind="mergesort")]
        at, weak_run = 0, 0
        while at < n:
            p = runs[order[at], 0]
            stop = at
            longest, best, covered, covered_weight = 0, order[at], 0, 0.0
            origin, size = part_start[p], part_start[p + 1] - part_start[p]
            while stop < n and runs[order[stop], 0] == p:
                r = order[stop]
                if runs[r, 3] > longest:
                    longest, best = runs[r, 3], r
                for t in range(runs[r, 2] - origin, runs[r, 2] - origin + runs[r, 3]):
                    if not mark[t]:
                        mark[t] = 1
                        covered += 1
                        covered_weight += weight[origin + t]
                stop += 1
            total_weight = 0.0
            for t in range(size):
                mark[t] = 0
                total_weight += weight[origin + t]
            if kind[p] == 1:
                hit = longest >= min(PASSAGE_RUN, size)
            else:
                hit = longest >= min(RUN, size) or 2 * covered >= size
            weak = kind[p] == 0 and hit and longest < PASSAGE_RUN and 2 * covered < size
            if weak and weak_run > 0:
                # A text shares eight tokens of LaTeX or of code with hundreds of items: one stands for all.
                hit = False
            if hit:
                weak_run = longest if weak else weak_run
                first_run = kept_count
                if kind[p] == 0 and longest < size and covered_weight >= 0.4 * total_weight:
                    kept, kept_count = _align(
                        stream, low, high, tokens, origin, size, runs[best, 1], runs[best, 2], kept, kept_count
                    )
                if kept_count == first_run:
                    for k in range(at, stop):
                        # A whole item found once is found; its other places add nothing.
                        if longest == size and order[k] != best:
                            continue
                        if kept_count == len(kept):
                            kept = _grow(kept)
                        r = order[k]
                        kept[kept_count, 0], kept[kept_count, 1], kept[kept_count, 2] = (
                            runs[r, 1],
                            runs[r, 2],
                            runs[r, 3],
                        )
                        kept_count += 1
                if pair_count == len(pairs):
                    pairs = _grow(pairs)
                pairs[pair_count, 0], pairs[pair_count, 1], pairs[pair_count, 2], pairs[pair_count, 3] = (
                    row,
                    p,
                    first_run,
                    kept_count,
                )
                pair_count += 1
            at = stop
    return pairs[:pair_count].copy(), kept[:kept_count].copy()


@kernel
def _align(stream, low, high, tokens, origin, size, i, q, kept, count):  # type: ignore[no-untyped-def]
    """Align the part with the text around its best run; append the runs of the alignment, in order.

    A longest common subsequence in which a match that continues a run counts 3 and another 2, so that a scattered
    "the" does not tear a run apart. Gives nothing where the table would be larger than _CELLS.
    """
    slack = max(16, size // 2)
    begin, end = max(low, i - (q - origin) - slack), min(high, i + (origin + size - q) + slack)
    width = end - begin
    if width * size > _CELLS:
        return kept, count
    score = np.zeros((2, width + 1), np.int32)
    step = np.zeros((size + 1, width + 1), np.uint8)  # 1 match, 2 skip an item token, 3 skip a text token
    for a in range(1, size + 1):
        now, before = a & 1, (a - 1) & 1
        token = tokens[origin + a - 1]
        for b in range(1, width + 1):
            value, move = score[before, b], 2
            if score[now, b - 1] > value:
                value, move = score[now, b - 1], 3
            if stream[begin + b - 1] == token:
                joined = a > 1 and b > 1 and step[a - 1, b - 1] == 1
                match = score[before, b - 1] + (3 if joined else 2)
                if match >= value:
                    value, move = match, 1
            score[now, b], step[a, b] = value, move
    a, b = size, width
    first = count
    while a > 0 and b > 0:
        move = step[a, b]
        if move == 1:
            length = 0
            while a > 0 and b > 0 and step[a, b] == 1:
                a -= 1
                b -= 1
                length += 1
            if count == len(kept):
                kept = _grow(kept)
            kept[count, 0], kept[count, 1], kept[count, 2] = begin + b, origin + a, length
            count += 1
        elif move == 2:
            a -= 1
        else:
            b -= 1
    for k in range((count - first) // 2):
        for c in range(3):
            kept[first + k, c], kept[count - 1 - k, c] = kept[count - 1 - k, c], kept[first + k, c]
    return kept, count


def _cut_unequal(
    index: Index,
    instruction: pa.StringArray,
    response: pa.StringArray,
    offsets: _I64,
    split: _I64,
    pairs: _I64,
    runs: _I64,
) -> int:
    """Cut runs, in place, where their bytes differ from the item's; how many. What two equal hashes claim is checked here."""
    rows, inverse = np.unique(pairs[:, 0], return_inverse=True)
    taken = pa.array(rows)
    left, right = normalise(instruction.take(taken)), normalise(response.take(taken))
    left_data, left_at = buffers(left)
    right_data, right_at = buffers(right)
    begin = offsets[rows]
    sizes = np.diff(offsets)[rows]
    out = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    starts, ends = _word_places(left_data, left_at, right_data, right_at, split[rows], out)
    item_starts, item_ends = _item_places(index.text, index.text_start, index.part_start, np.unique(pairs[:, 1]))
    return int(
        _compare(
            pairs,
            runs,
            inverse,
            begin,
            split[rows],
            out,
            starts,
            ends,
            left_data,
            right_data,
            index.text,
            item_starts,
            item_ends,
        )
    )


@kernel
def _word_places(left, left_at, right, right_at, split, out):  # type: ignore[no-untyped-def]
    """Bytes of every token of the rows' normalised fields (space-separated), field after field."""
    starts, ends = np.zeros(out[-1], np.int64), np.zeros(out[-1], np.int64)
    for row in range(len(split)):
        t = out[row]
        for field in range(2):
            data, low, high = (
                (left, left_at[row], left_at[row + 1]) if field == 0 else (right, right_at[row], right_at[row + 1])
            )
            i = low
            while i < high:
                starts[t] = i
                while i < high and data[i] != 32:
                    i += 1
                ends[t] = i
                t += 1
                i += 1
        assert t == out[row + 1]
    return starts, ends


@kernel
def _item_places(text, text_start, part_start, parts):  # type: ignore[no-untyped-def]
    """The same for the parts named; places of others stay 0."""
    starts, ends = np.zeros(part_start[-1], np.int64), np.zeros(part_start[-1], np.int64)
    for p in parts:
        t, i = part_start[p], text_start[p]
        while i < text_start[p + 1]:
            starts[t] = i
            while i < text_start[p + 1] and text[i] != 32:
                i += 1
            ends[t] = i
            t += 1
            i += 1
    return starts, ends


@kernel
def _compare(pairs, runs, inverse, begin, split, out, starts, ends, left, right, text, item_starts, item_ends):  # type: ignore[no-untyped-def]
    """Cut each run at its first token whose bytes differ; how many were cut."""
    wrong = 0
    for n in range(len(pairs)):
        row = inverse[n]
        for r in range(pairs[n, 2], pairs[n, 3]):
            for k in range(runs[r, 2]):
                t = runs[r, 0] - begin[row] + k
                data = left if t < split[row] else right
                t += out[row]
                q = runs[r, 1] + k
                same = ends[t] - starts[t] == item_ends[q] - item_starts[q]
                if same:
                    for b in range(ends[t] - starts[t]):
                        if data[starts[t] + b] != text[item_starts[q] + b]:
                            same = False
                            break
                if not same:
                    runs[r, 2] = k
                    wrong += 1
                    break
    return wrong


@kernel
def _measure(pairs, runs, stream, turning, offsets, split, digits, weight, number, part_start, kind, ask):  # type: ignore[no-untyped-def]
    """Per pair: shares float32 [n, 7] (cover, body, ask, numbers, bits, exact, swapped), counts int64 [n, 10] as _NUMBERS, spans [n, 2]."""
    shares, counts = np.zeros((len(pairs), 7), np.float32), np.zeros((len(pairs), 10), np.int64)
    spans = np.zeros((len(pairs), 2), np.int64)
    longest_part = 1
    for n in range(len(pairs)):
        longest_part = max(longest_part, part_start[pairs[n, 1] + 1] - part_start[pairs[n, 1]])
    mark = np.zeros(longest_part, np.uint8)  # by run length: 1 single, 2 two to seven, then bits for 8, 11, 13, 20
    gram = np.zeros(longest_part, np.uint8)
    for n in range(len(pairs)):
        row, p = pairs[n, 0], pairs[n, 1]
        origin, size = part_start[p], part_start[p + 1] - part_start[p]
        mark[:size], gram[:size] = 0, 0
        longest, best = 0, pairs[n, 2]
        for r in range(pairs[n, 2], pairs[n, 3]):
            length = runs[r, 2]
            if length > longest:
                longest, best = length, r
            level = 1
            if length >= 2 or size == 1:
                level |= 2
            if length >= 8:
                level |= 4
            if length >= 11:
                level |= 8
            if length >= 13:
                level |= 16
            if length >= 20:
                level |= 32
            for t in range(runs[r, 1] - origin, runs[r, 1] - origin + length):
                mark[t] |= level
            for t in range(runs[r, 1] - origin, runs[r, 1] - origin + length - RUN + 1):
                gram[t] = 1
        # The span: all runs of an alignment, or the longest where runs lie scattered over a long text.
        start, end = runs[best, 0], runs[best, 0] + runs[best, 2]
        for r in range(pairs[n, 2], pairs[n, 3]):
            if runs[r, 2] >= 2 and abs((runs[r, 0] - runs[r, 1]) - (runs[best, 0] - runs[best, 1])) <= max(
                16, size // 2
            ):
                start, end = min(start, runs[r, 0]), max(end, runs[r, 0] + runs[r, 2])
        spans[n, 0], spans[n, 1] = start, end
        counts[n, 9] = end - start
        total_body, total_ask, got_body, got_ask, numbers = 0.0, 0.0, 0.0, 0.0, True
        for t in range(size):
            w = weight[origin + t] if kind[p] == 0 else 1.0
            if t < ask[p]:
                total_body += w
            else:
                total_ask += w
            if mark[t] & 2:
                if t < ask[p]:
                    got_body += w
                else:
                    got_ask += w
            elif number[origin + t] and w > 0:
                numbers = False
            counts[n, 3] += mark[t] & 1
            counts[n, 4] += mark[t] >> 2 & 1
            counts[n, 5] += mark[t] >> 3 & 1
            counts[n, 6] += mark[t] >> 4 & 1
            counts[n, 7] += mark[t] >> 5 & 1
            counts[n, 8] += gram[t]
        counts[n, 0], counts[n, 1], counts[n, 2] = size, offsets[row + 1] - offsets[row], longest
        shares[n, 0] = (got_body + got_ask) / max(total_body + total_ask, 1e-6)
        shares[n, 1] = got_body / total_body if total_body > 0 else 0.0
        shares[n, 2] = got_ask / total_ask if total_ask > 0 else 1.0
        swapped = 0.0
        for r in range(pairs[n, 2], pairs[n, 3] - 1):
            i, q = runs[r, 0] + runs[r, 2], runs[r, 1] + runs[r, 2]
            if i < start or runs[r + 1, 0] >= end or longest == size:
                continue
            if runs[r + 1, 0] < i:  # scattered runs are no alignment
                swapped = 99.0
                continue
            for t in range(i, runs[r + 1, 0]):
                numbers &= digits[t] == 0
                for word in turning:
                    numbers &= stream[t] != word
            if runs[r + 1, 0] > i:
                for t in range(q, runs[r + 1, 1]):
                    swapped = max(swapped, weight[t])
        shares[n, 3], shares[n, 6] = 1.0 if numbers else 0.0, swapped
        shares[n, 4] = got_body + got_ask
        field = split[row] if start < offsets[row] + split[row] else counts[n, 1] - split[row]
        shares[n, 5] = 1.0 if longest == size and field == size else 0.0
    return shares, counts, spans


@kernel
def _near(stream, low, high, start, end, tokens, begin, stop):  # type: ignore[no-untyped-def]
    """Whether tokens[begin:stop] stand in stream[low:high] outside [start:end)."""
    size = stop - begin
    i = low
    while i + size <= high:
        if i + size > start and i < end:
            i = end
            continue
        k = 0
        while k < size and stream[i + k] == tokens[begin + k]:
            k += 1
        if k == size:
            return True
        i += 1
    return False


@kernel
def _contexts(  # type: ignore[no-untyped-def]
    pairs, spans, shares, stream, offsets, tokens, weight, part_start, kind, owner_start, owner, passage, answer, choice_start, choice,
):  # fmt: skip
    """Each pair with each of its items: the pair int64, the item int32, bits of its context near by, and whether that is enough."""
    out, count = np.empty((64, 2), np.int64), 0
    values = np.empty((64, 2), np.float32)
    for n in range(len(pairs)):
        row, p = pairs[n, 0], pairs[n, 1]
        owners = owner_start[p + 1] - owner_start[p]
        first = count
        backed = 0
        for o in range(owner_start[p], owner_start[p + 1]):
            item = owner[o]
            bits, enough = 0.0, False
            # A passage's items are its questions': they are hits of their own. An item's first text speaks for the rest.
            if kind[p] == 1:
                if o > owner_start[p]:
                    break
            elif shares[n, 0] >= 0.5:
                start, end = spans[n, 0], spans[n, 1]
                reach = NEAR
                for c in range(choice_start[item], choice_start[item + 1]):
                    if choice[c] >= 0:
                        reach += part_start[choice[c] + 1] - part_start[choice[c]] + 2
                low, high = max(offsets[row], start - reach), min(offsets[row + 1], end + reach)
                found, listed = 0, 0
                answered = False
                for c in range(choice_start[item], choice_start[item + 1]):
                    if choice[c] < 0:
                        continue
                    listed += 1
                    a, b = part_start[choice[c]], part_start[choice[c] + 1]
                    if _near(stream, low, high, start, end, tokens, a, b):
                        found += 1
                        for t in range(a, b):
                            bits += weight[t]
                        answered |= choice[c] == answer[item]
                if answer[item] >= 0 and not answered:
                    a, b = part_start[answer[item]], part_start[answer[item] + 1]
                    if _near(
                        stream,
                        max(offsets[row], start - NEAR),
                        min(offsets[row + 1], end + NEAR),
                        start,
                        end,
                        tokens,
                        a,
                        b,
                    ):
                        answered = True
                        if listed == 0:
                            for t in range(a, b):
                                bits += weight[t]
                enough = (listed > 0 and 2 * found >= listed) or (answered and (listed == 0 or bits >= 8))
                if passage[item] >= 0:
                    k = n
                    while k > 0 and pairs[k - 1, 0] == row:
                        k -= 1
                    while k < len(pairs) and pairs[k, 0] == row:
                        if pairs[k, 1] == passage[item] and shares[k, 0] >= 0.5:
                            enough = True
                            bits += 16
                        k += 1
            if count == len(out):
                out, values = _grow(out), _grow(values)
            out[count, 0], out[count, 1] = n, item
            values[count, 0], values[count, 1] = bits, 1.0 if enough else 0.0
            backed += enough
            count += 1
        # Where many items ask the same, those with their own choices, answer or passage are the ones that were found.
        if owners > SHARED and kind[p] == 0:
            keep = first
            for k in range(first, count):
                if values[k, 1] > 0 or (backed == 0 and k == first):
                    out[keep], values[keep] = out[k], values[k]
                    keep += 1
            count = keep
    return out[:count, 0].copy(), out[:count, 1].astype(np.int32), values[:count, 0].copy(), values[:count, 1] > 0


@kernel
def _ends_sentence(data, low, high):  # type: ignore[no-untyped-def]
    """Whether one of . ? ! : ; " or a line break stands in data[low:high]."""
    for i in range(low, high):
        c = data[i]
        if c == 46 or c == 63 or c == 33 or c == 58 or c == 59 or c == 10 or c == 34:
            return True
    return False


@kernel
def _places(
    pairs,
    spans,
    offsets,
    left_offsets,
    left_start,
    left_end,
    left_data,
    left_at,
    right_offsets,
    right_start,
    right_end,
    right_data,
    right_at,
):  # type: ignore[no-untyped-def]
    """Of each span: the field in which it begins, its bytes there (it ends with the field), and whether sentence ends or
    the field's own ends stand on both sides of it."""
    fields, bounded = np.zeros(len(spans), np.uint8), np.zeros(len(spans), np.bool_)
    starts, ends = np.zeros(len(spans), np.int32), np.zeros(len(spans), np.int32)
    for n in range(len(spans)):
        row = pairs[n, 0]
        a, b = spans[n, 0] - offsets[row], spans[n, 1] - offsets[row]
        size = left_offsets[row + 1] - left_offsets[row]
        if a < size:
            first, count, start, end, data, at = left_offsets[row], size, left_start, left_end, left_data, left_at
        else:
            fields[n] = 1
            a, b = a - size, b - size
            first, count, start, end, data, at = (
                right_offsets[row],
                right_offsets[row + 1] - right_offsets[row],
                right_start,
                right_end,
                right_data,
                right_at,
            )
        b = min(b, count)
        starts[n], ends[n] = start[first + a], end[first + b - 1]
        before = a == 0 or _ends_sentence(data, at[row] + end[first + a - 1], at[row] + starts[n])
        after = b == count or _ends_sentence(data, at[row] + ends[n], at[row] + start[first + b])
        bounded[n] = before and after
    return fields, starts, ends, bounded


@kernel
def _grams13(pairs, runs, prefix, power):  # type: ignore[no-untyped-def]
    """The keys of the 13-grams in each pair's runs: uint64 and offsets int64 [n+1]."""
    total = 0
    for n in range(len(pairs)):
        for r in range(pairs[n, 2], pairs[n, 3]):
            total += max(0, runs[r, 2] - 12)
    grams, offsets = np.empty(total, np.uint64), np.zeros(len(pairs) + 1, np.int64)
    at = 0
    for n in range(len(pairs)):
        for r in range(pairs[n, 2], pairs[n, 3]):
            for i in range(runs[r, 0], runs[r, 0] + runs[r, 2] - 12):
                grams[at] = _key(prefix[i + 13] - prefix[i] * power, 13)
                at += 1
        offsets[n + 1] = at
    return grams, offsets


def gram_rows(hits: pa.Table) -> tuple[_U64, _I64]:
    """The 13-grams of HITS, sorted, and how many texts hold each."""
    hits = hits.combine_chunks()
    lists = _array(hits["grams13"])
    rows = np.repeat(hits["row"].to_numpy(), pc.list_value_length(lists).to_numpy(zero_copy_only=False)).astype(
        np.int64
    )
    grams = lists.flatten().to_numpy(zero_copy_only=False)
    order = np.lexsort((rows, grams))
    rows, grams = rows[order], grams[order]
    new = np.ones(len(grams), np.bool_)
    new[1:] = (grams[1:] != grams[:-1]) | (rows[1:] != rows[:-1])
    distinct, counts = np.unique(grams[new], return_counts=True)
    return distinct, counts.astype(np.int64)


# ---------------------------------------------------------------------------------------------------------------- rules

Flags = npt.NDArray[np.bool_]


class Measures(NamedTuple):
    """The columns of HITS that rules read, as arrays [hits], beside `items`, how many items of one benchmark ask the
    question, and `rare13`, whether the text shares a 13-gram that at most COMMON_ROWS texts of the corpus hold."""

    question: Flags
    cover: _F32
    ask: _F32
    numbers: Flags
    swapped: _F32
    bits: _F32
    context_bits: _F32
    context: Flags
    exact: Flags
    tokens: _I32
    row_tokens: _I32
    longest: _I32
    common: _I32
    cover8: _I32
    cover13: _I32
    cover11: _I32
    cover20: _I32
    grams8: _I32
    span_tokens: _I32
    bounded: Flags
    items: _I32
    rare13: Flags


class Rule(NamedTuple):
    """A reading of the hits: what it counts as contaminated, where it is published, and whether each hit is one."""

    says: str
    source: str
    flags: Callable[[Measures], Flags]


def _ngram13(m: Measures) -> Flags:
    long = m.tokens >= WHOLE_TOKENS
    # An item with words put between its words is another item, unless it is long and they are few (quote marks, a name).
    together = np.where(long, m.span_tokens <= 1.25 * m.tokens + 4, m.longest == m.tokens)
    found = (
        m.question & (m.cover >= LEAK_COVER) & (m.ask >= ASK_COVER) & m.numbers & (m.swapped < SWAPPED_BITS) & together
    )
    alone = (long | ((m.bits >= WHOLE_BITS) & m.bounded) | m.exact) & (m.items <= SHARED)
    backed = m.context & (long | (m.bits + m.context_bits >= CONTEXT_BITS))
    return found & (alone | backed)


def _share(part: _I32, tokens: _I32) -> npt.NDArray[np.float64]:
    return part / np.maximum(tokens, 1)


RULES: dict[str, Rule] = {
    "ngram13": Rule(
        "90 % of the question's weight, all of its numbers and its last sentence; shorter than 13 tokens, the whole of it, telling enough or "
        "with its answer or choices near by",
        "Winnow",
        _ngram13,
    ),
    "gpt3": Rule(
        "a shared 13-gram that at most 10 training texts hold", "Brown et al. 2020, appendix C", lambda m: m.rare13
    ),
    "palm": Rule(
        "70 % of the item's 8-grams",
        "Chowdhery et al. 2022, section 8",
        lambda m: (m.tokens >= 8) & (m.grams8 >= 0.7 * (m.tokens - 7)),
    ),
    "llama2": Rule(
        "80 % of the item's tokens in shared runs of more than 10 (without the skip budget of 4)",
        "Touvron et al. 2023, section A.6",
        lambda m: _share(m.cover11, m.tokens) >= 0.8,
    ),
    "tulu3": Rule(
        "more than half of the item's tokens in shared 8-grams",
        "Lambert et al. 2024, section 3.2",
        lambda m: _share(m.cover8, m.tokens) > 0.5,
    ),
    "qwen25": Rule(
        "a common subsequence of 13 tokens and of 60 % of the shorter text",
        "Qwen 2024, section 3",
        lambda m: (m.common >= 13) & (m.common >= 0.6 * np.minimum(m.tokens, m.row_tokens)),
    ),
    "open_r1": Rule("any shared 8-gram", "open-r1, scripts/decontaminate.py", lambda m: m.longest >= 8),
    "hrm_text": Rule(
        "dirty: 80 % of the item's tokens in shared 13-grams",
        "HRM-Text, section 4.2",
        lambda m: _share(m.cover13, m.tokens) >= 0.8,
    ),
    "hrm_text20": Rule(
        "dirty: 80 % of the item's tokens in shared 20-grams",
        "HRM-Text, section 4.2",
        lambda m: _share(m.cover20, m.tokens) >= 0.8,
    ),
}
"""The rules by name, over one scan. Published rules are read per training text; where a paper takes the union over the
corpus, an item counts here when one text alone holds enough of it. Tokens are ours, not the papers' tokenizers'. Seeds
that more than CAP items share stand for one of them, so rules that count frames see the text, not each such item."""


def judge(index: Index, hits: pa.Table, rule: str, common: _U64) -> pa.Table:
    """Give HITS their class under `rule` (a name in RULES): columns `class`, `score` and `rules`, those that flag them.

    common: sorted keys of the 13-grams that more than COMMON_ROWS texts of the corpus hold. Of the hits of one text that
    no rule but open_r1 flags, the best for each benchmark and class is kept; a text shares phrases with thousands of items.
    """
    measures = _measures(index, hits, common)
    flags = {name: one.flags(measures) for name, one in RULES.items()}
    item = hits["item"].to_numpy()
    body_only = (hits["body"].to_numpy() >= 0.8) & (measures.ask < ASK_COVER) & (measures.tokens >= 40)
    passage = ~measures.question | (body_only & ~flags[rule])
    leak = measures.question & flags[rule]
    code = np.where(leak, index.trained[item], np.where(passage, 2, 3)).astype(np.int32)
    told = leak | np.any([flag for name, flag in flags.items() if name != "open_r1"], axis=0)

    row, bench = hits["row"].to_numpy(), index.bench[item]
    order = np.lexsort((item, -measures.longest, -measures.cover, told, code, bench, row))
    ordered = np.stack([row[order], bench[order], code[order], told[order]])
    best = np.ones(len(order), np.bool_)
    best[1:] = np.any(ordered[:, 1:] != ordered[:, :-1], axis=0)
    keep = np.zeros(len(order), np.bool_)
    keep[order] = best | told[order]
    names = np.array(list(flags))
    matrix = np.stack([flags[name] for name in names], axis=1)[keep]
    rules = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(matrix.sum(1))]).astype(np.int32)),
        pa.array(names[np.nonzero(matrix)[1]].tolist(), pa.string()),
    )
    kept = hits.filter(pa.array(keep))
    kept = kept.append_column("class", pa.array(CLASSES, pa.string()).take(pa.array(code[keep])))
    kept = kept.append_column("score", pa.array(measures.cover[keep]))
    return kept.append_column("rules", rules)


def _measures(index: Index, hits: pa.Table, common: _U64) -> Measures:
    hits = hits.combine_chunks()
    item = hits["item"].to_numpy()
    grams = _array(hits["grams13"])
    sizes = pc.list_value_length(grams).to_numpy(zero_copy_only=False)
    flat = grams.flatten().to_numpy(zero_copy_only=False)
    place = np.searchsorted(common, flat)
    rare = np.ones(len(flat), np.bool_)
    inside = place < len(common)
    rare[inside] = common[place[inside]] != flat[inside]
    rare13 = np.zeros(hits.num_rows, np.bool_)
    rare13[np.repeat(np.arange(hits.num_rows), sizes)[rare]] = True

    def column(name: str) -> Any:
        return hits[name].to_numpy()

    return Measures(
        column("kind") == QUESTION, column("cover"), column("ask"), column("numbers"), column("swapped"), column("bits"), column("context_bits"), column("context"),
        column("exact"), column("tokens"), column("row_tokens"), column("longest"), column("common"), column("cover8"), column("cover13"),
        column("cover11"), column("cover20"), column("grams8"), column("span_tokens"), column("bounded"), index.shared[item], rare13,
    )  # fmt: skip

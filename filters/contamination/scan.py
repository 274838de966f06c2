"""What a text shares with the items of an index: seeds, runs, alignments, measures.

Seeds that match are extended to runs; the runs of one item are aligned with the text around them (a longest common
subsequence that prefers contiguous runs), and the aligned tokens are confirmed byte by byte: no hit rests on a hash.
Choices and answers are looked for one by one near the question, so their order and lettering do not matter.

The scan is exhaustive, with one exception that is stated: a text shares a phrase of 8 to 12 tokens of LaTeX or code
with hundreds of items, and of such weak pairs (less than half of a question, no 13-gram) each text keeps one.
A scan holds about 60 bytes for each token of 8 MiB of text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.characters import ascii_folds
from dedup.kernel import buffers, kernel
from dedup.shingles import BASE
from dedup.tokens import Tokens, normalise, tokenize
from filters.contamination.index import LEVELS, PASSAGE, QUESTION, WHOLE, Index, key_of, prefixes, spell, turning_words

RUN = 8
"""A shared run this long (or a whole shorter item) makes a pair worth measuring: the shortest run any rule reads."""
PASSAGE_RUN = 13
"""The same for passages, which are public text and share phrases with everything; also what makes a pair strong."""
WHOLE_BITS = 30.0
"""A question shorter than RUN is worth measuring when it tells so many bits, or something beside it backs it."""
NEAR = 50
"""Tokens beside the question within which its answer is near; choices may lie as much farther as they are long."""
SHARED = 3
"""A question that more items of one benchmark share identifies none of them without choices, answer or passage."""
GRAMS = (8, 11, 13, 20)
"""Lengths of the n-grams that are counted, so that what all texts together hold of an item can be said. Each is a
length of seeds: an n-gram of the index that stands in a text is found there, however common it is."""
SKIPS, SKIP_RUN = 4, 10
"""Llama 2's skip-grams: so many tokens of a match may differ, none of them among its first ten nor its last."""
CHUNK = 8 << 20
"""Bytes of text scanned at a time."""
CELLS = 1 << 22
"""The largest alignment, in cells; beyond it the runs themselves are taken."""

_BASE = np.uint64(BASE)
_ONE, _TWO = np.uint64(1), np.uint64(2)
_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]

HITS = pa.schema(
    [
        ("row", pa.int32()), ("item", pa.int32()), ("kind", pa.uint8()),
        ("cover", pa.float32()), ("body", pa.float32()), ("ask", pa.float32()),
        ("numbers", pa.bool_()), ("swapped", pa.float32()), ("bits", pa.float32()),
        ("context_bits", pa.float32()), ("context", pa.bool_()), ("exact", pa.bool_()), ("bounded", pa.bool_()),
        ("tokens", pa.int32()), ("row_tokens", pa.int32()), ("longest", pa.int32()), ("common", pa.int32()),
        ("cover8", pa.int32()), ("cover11", pa.int32()), ("cover13", pa.int32()), ("cover20", pa.int32()),
        ("grams8", pa.int32()), ("span_tokens", pa.int32()),
        ("field", pa.uint8()), ("start", pa.int32()), ("end", pa.int32()), ("grams13", pa.list_(pa.uint64())),
    ]
)  # fmt: skip
"""What `scan` measures for one text and one item.

kind: QUESTION or PASSAGE, the part of the item that was found.
cover, body, ask: shares (0 to 1) of the weight found: of all of it, of all but its last sentence, of its last sentence.
numbers: every number, operator and negation of it was found, and no other digit or negation between its tokens.
swapped: the most bits of one of its words that other words stand in place of.
bits: what the tokens found tell. context_bits: what choices, answer and passage near by add; context: enough of those.
exact: the instruction holds these tokens and no others. bounded: sentence ends stand on both sides of the span.
tokens, row_tokens: lengths. longest: the longest shared run. common: shared tokens, in order. coverN: the item's tokens
in shared runs of N or more, for 11 with SKIPS. grams8: its 8-grams found. span_tokens: from the first to the last
shared token. field: 0 instruction, 1 response; start, end: bytes of the span in that field. grams13: keys of the
13-grams shared.
"""

COUNTS = pa.schema([("length", pa.int8()), ("gram", pa.uint64()), ("rows", pa.int64())])
"""An n-gram's length and key, and the rows that hold it."""

_SHARES = ("cover", "body", "ask", "numbers", "bits", "exact", "swapped")
_COUNTS = (
    "tokens", "row_tokens", "longest", "common", "cover8", "cover11", "cover13", "cover20", "grams8", "span_tokens",
)  # fmt: skip


class Stream(NamedTuple):
    """The tokens of texts, instruction then response: hash uint64, prefix uint64 [tokens+1], offsets int64 [rows+1],
    split int64 [rows], the tokens of each instruction."""

    hash: _U64
    prefix: _U64
    offsets: _I64
    split: _I64


class Field(NamedTuple):
    """One column of texts: where its tokens stand, int32 [tokens] and int64 [rows+1], and its bytes."""

    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    offsets: _I64
    data: npt.NDArray[np.uint8]
    at: _I64


class Scan(NamedTuple):
    """hits: HITS, by row, then part, then item. grams: COUNTS, the n-grams (GRAMS) of the index that texts hold."""

    hits: pa.Table
    grams: pa.Table


def scan(index: Index, instruction: pa.StringArray, response: pa.StringArray) -> Scan:
    """Measure every item that the texts [rows] hold anything of, and count the n-grams that they share with items.

    A record's two fields are read as one text, so an item that begins in one and ends in the other is found.
    """
    ends = np.cumsum(sum(np.diff(buffers(field)[1]) for field in (instruction, response)))
    hits, grams, begin = [HITS.empty_table()], [COUNTS.empty_table()], 0
    while begin < len(ends):  # what stays in the cache is scanned half as fast again
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + CHUNK, "right")))
        found = _scan(index, instruction.slice(begin, end - begin), response.slice(begin, end - begin))
        rows = pc.add(found.hits["row"], pa.scalar(begin, pa.int32()))
        hits.append(found.hits.set_column(0, HITS.field("row"), rows))
        grams.append(found.grams)
        begin = end
    return Scan(pa.concat_tables(hits).combine_chunks(), sum_counts(grams))


def sum_counts(counts: Iterable[pa.Table]) -> pa.Table:
    """COUNTS of several scans as one, sorted."""
    total = COUNTS.empty_table()
    for table in counts:
        if table.num_rows:
            both = pa.concat_tables([total, table])
            total = both.group_by(["length", "gram"]).aggregate([("rows", "sum")]).rename_columns(COUNTS.names)
    return total.sort_by([("length", "ascending"), ("gram", "ascending")]).combine_chunks()


def _scan(index: Index, instruction: pa.StringArray, response: pa.StringArray) -> Scan:
    ix = index.arrays
    left, right = tokenize(instruction), tokenize(response)
    stream = _stream(left, right)
    powers = np.array([pow(BASE, length, 1 << 64) for length in LEVELS], np.uint64)
    whole_powers = np.array([pow(BASE, length, 1 << 64) for length in ix.whole.tolist()], np.uint64)
    candidates = _candidates(stream, powers[0], LEVELS[0], ix.bits, ix.first)
    at, said = _seeds(stream, *candidates, powers, whole_powers, np.array(LEVELS, np.int64), ix.whole, ix.table)
    found, count = _extend(stream, at, said, ix.postings, ix.tokens, ix.part, ix.part_start, ix.kind)
    # What is found must not depend on which seed found it.
    place = found[:count, 0] * len(ix.kind) + found[:count, 1]
    found = found[np.lexsort((found[:count, 2], place))]
    texts = (instruction, response)
    fields = (
        Field(left.start, left.end, left.offsets, *buffers(instruction)),
        Field(right.start, right.end, right.offsets, *buffers(response)),
    )
    long = np.flatnonzero(found[:, 4] >= RUN)
    each = np.stack([found[long, 0], found[long, 1], np.arange(len(long)), np.arange(1, len(long) + 1)], axis=1)
    runs = found[long, 2:].copy()
    _cut_unequal(index, fields, texts, stream, each, runs)
    found[long, 4] = runs[:, 2]
    grams = _count_grams(stream, found[long, 0], runs)
    pairs, count, runs, run_count = _pairs(stream, found, ix)
    pairs, runs = pairs[:count], runs[:run_count]
    if not len(pairs):
        return Scan(HITS.empty_table(), grams)
    shares, counts, spans = _measure(pairs, runs, found, stream, *fields, turning_words(), ix)
    near, context, count = _contexts(pairs, spans, shares, _spelt(index, texts, pairs), stream, ix)
    # A few words that make a whole question ("the heart has") are a hit only with something beside them that says so.
    told = (counts[:, 0] >= RUN) | (shares[:, 4] >= WHOLE_BITS) | (shares[:, 5] > 0)
    told[near[:count, 0][context[:count, 1] > 0]] = True
    if _cut_unequal(index, fields, texts, stream, pairs[told], runs):
        told &= np.add.reduceat(np.append(runs[:, 2], 0), pairs[:, 2]) > 0
        shares, counts, spans = _measure(pairs, runs, found, stream, *fields, turning_words(), ix)
    pairs, shares, counts, spans = pairs[told], shares[told], counts[told], spans[told]
    if not len(pairs):
        return Scan(HITS.empty_table(), grams)
    near, context, count = _contexts(pairs, spans, shares, _spelt(index, texts, pairs), stream, ix)
    which, item, context = near[:count, 0], near[:count, 1].astype(np.int32), context[:count]
    places = dict(zip(("field", "start", "end", "bounded"), _places(pairs, spans, stream, *fields), strict=True))
    by_pair: dict[str, Any] = {
        "row": pairs[:, 0].astype(np.int32),
        "kind": ix.kind[pairs[:, 1]],
        **{name: shares[:, i] for i, name in enumerate(_SHARES)},
        **{name: counts[:, i].astype(np.int32) for i, name in enumerate(_COUNTS)},
        **places,
    }
    by_pair |= {"numbers": by_pair["numbers"] > 0, "exact": by_pair["exact"] > 0}
    columns = {name: pa.array(values[which]) for name, values in by_pair.items()}
    columns |= {"item": pa.array(item), "context_bits": pa.array(context[:, 0]), "context": pa.array(context[:, 1] > 0)}
    keys, starts = _grams13(pairs, found, stream, np.uint64(pow(BASE, 13, 1 << 64)))
    columns["grams13"] = pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), pa.array(keys)).take(
        pa.array(which)
    )
    return Scan(pa.table([columns[name] for name in HITS.names], schema=HITS), grams)


def _count_grams(stream: Stream, row: _I64, runs: _I64) -> pa.Table:
    """COUNTS of the n-grams in runs (token, index token, length) of the rows beside them, which ascend."""
    tables = [COUNTS.empty_table()]
    for length in GRAMS:
        grams, rows = _count(row, runs, stream, np.uint64(pow(BASE, length, 1 << 64)), length)
        columns = (np.full(len(grams), length, np.int8), grams, rows)
        tables.append(pa.table([pa.array(column) for column in columns], schema=COUNTS))
    return pa.concat_tables(tables)


@kernel
def _count(row, runs, stream, power, length):  # type: ignore[no-untyped-def]
    """The distinct keys of the n-grams in runs uint64 [n], and how many rows hold each int64 [n]."""
    total = 0
    for r in range(len(runs)):
        total += max(0, runs[r, 2] - length + 1)
    size = 16
    while size < 2 * total:
        size *= 2
    place, mask = np.zeros(size, np.int64), np.uint64(size - 1)
    grams, last, rows = np.empty(total, np.uint64), np.empty(total, np.int64), np.empty(total, np.int64)
    count = 0
    for r in range(len(runs)):
        for i in range(runs[r, 0], runs[r, 0] + runs[r, 2] - length + 1):
            key = key_of(stream.prefix[i + length] - stream.prefix[i] * power, length)
            slot = key >> _ONE & mask
            while place[slot] > 0 and grams[place[slot] - 1] != key:
                slot = (slot + _ONE) & mask
            if place[slot] == 0:
                grams[count], last[count], rows[count] = key, row[r], 1
                count += 1
                place[slot] = count
            elif last[place[slot] - 1] != row[r]:
                last[place[slot] - 1] = row[r]
                rows[place[slot] - 1] += 1
    return grams[:count], rows[:count]


def _stream(left: Tokens, right: Tokens) -> Stream:
    offsets = left.offsets + right.offsets
    joined = np.empty(int(offsets[-1]), np.uint64)
    _interleave(left.hash, left.offsets, right.hash, right.offsets, offsets, joined)
    return Stream(joined, prefixes(joined), offsets, np.diff(left.offsets))


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
def _probe(table, wanted):  # type: ignore[no-untyped-def]
    """What the seed table says of a key; 0 = no such seed."""
    mask = np.uint64(len(table) // 2 - 1)
    slot = wanted >> _ONE & mask
    while table[_TWO * slot] != 0:
        if table[_TWO * slot] == wanted:
            return table[_TWO * slot + _ONE]
        slot = (slot + _ONE) & mask
    return np.uint64(0)


@kernel
def _grow(array):  # type: ignore[no-untyped-def]
    larger = np.empty((2 * array.shape[0], array.shape[1]), array.dtype)
    for i in range(array.shape[0]):  # not by slices, which take seconds to compile
        for k in range(array.shape[1]):
            larger[i, k] = array[i, k]
    return larger


@kernel
def _candidates(stream, power, length, bits, first):  # type: ignore[no-untyped-def]
    """The tokens where a seed of the shortest length may begin, and those where a shorter whole item may: int64 each.

    Nine tokens in ten begin neither. They are passed over without a branch, which the processor would have to guess.
    """
    seeds, shorts = np.empty(len(stream.hash) + 1, np.int64), np.empty(len(stream.hash) + 1, np.int64)
    seed_count, short_count = np.int64(0), np.int64(0)
    mask, prefix = np.uint64(len(bits) - 1), stream.prefix
    for row in range(len(stream.offsets) - 1):
        low, high = stream.offsets[row], stream.offsets[row + 1]
        for i in range(low, high - length + 1):
            h = key_of(prefix[i + length] - prefix[i] * power, length)
            seeds[seed_count] = i
            seed_count += np.int64(bits[h >> np.uint64(20) & mask] >> (h >> np.uint64(58)) & _ONE)
        for i in range(low, high):
            h = key_of(stream.hash[i], 1)
            hit = first[h >> np.uint64(20) & np.uint64(2047)] >> (h >> np.uint64(58))
            if i + 1 < high:
                h = key_of(stream.hash[i] * _BASE + stream.hash[i + 1], 2)
                hit |= first[h >> np.uint64(20) & np.uint64(2047)] >> (h >> np.uint64(58))
            shorts[short_count] = i
            short_count += np.int64(hit & _ONE)
    return seeds[:seed_count], shorts[:short_count]


@kernel
def _seeds(stream, candidates, shorts, powers, whole_powers, levels, whole, table):  # type: ignore[no-untyped-def]
    """Every seed that stands in the texts: its token int64 [n], ascending, and what the table says of it uint64 [n]."""
    size = (len(candidates) + len(shorts)) * 4 + 64
    at, said, count = np.empty(size, np.int64), np.empty(size, np.uint64), 0
    prefix = stream.prefix
    tiny = 0  # of the whole lengths, how many are shorter than the shortest seed
    while tiny < len(whole) and whole[tiny] < levels[0]:
        tiny += 1
    row, c, d = 0, 0, 0
    while c < len(candidates) or d < len(shorts):
        i = len(stream.hash)
        if c < len(candidates):
            i = candidates[c]
        wholes = tiny
        seeded = True
        if d < len(shorts) and shorts[d] <= i:
            seeded = shorts[d] == i
            i, wholes = shorts[d], 0
            d += 1
        while i >= stream.offsets[row + 1]:
            row += 1
        high, to = stream.offsets[row + 1], tiny
        if count + len(levels) + len(whole) > size:
            at, said, size = _double(at), _double(said), 2 * size
        if seeded:
            c += 1
            for level in range(len(levels)):
                if i + levels[level] > high:
                    break
                h = key_of(prefix[i + levels[level]] - prefix[i] * powers[level], levels[level])
                seed = _probe(table, h)
                if seed == 0:
                    break
                if seed >> np.uint64(41):
                    to = len(whole)
                common = seed >> np.uint64(40) & _ONE
                # One of a thousand places of a short phrase is no find; from RUN on it is: a rule counts any.
                if not common or levels[level] >= RUN:
                    at[count], said[count] = i, seed
                    count += 1
                if not common:
                    break
        for w in range(wholes, to):
            if i + whole[w] > high:
                break
            h = key_of(prefix[i + whole[w]] - prefix[i] * whole_powers[w], whole[w] + WHOLE)
            seed = _probe(table, h)
            if seed != 0:
                at[count], said[count] = i, seed
                count += 1
    return at[:count], said[:count]


@kernel
def _double(array):  # type: ignore[no-untyped-def]
    larger = np.empty(2 * len(array), array.dtype)
    for i in range(len(array)):
        larger[i] = array[i]
    return larger


@kernel
def _extend(stream, at, said, postings, tokens, part, part_start, kind):  # type: ignore[no-untyped-def]
    """Seeds extended to the longest runs, each once, of the rows and parts worth a look: int64 [n, 5], row, part,
    token, index token, length; n.

    Worth a look is a run that `_pairs` or a count of n-grams may take, and a question of which runs may hold half.
    """
    runs, count, kept = np.empty((max(len(at), 1024), 5), np.int64), 0, 0
    seen = np.zeros((4096, 3), np.int64)  # the last run on a diagonal: its row + 1, the diagonal, its end
    told = np.zeros((len(kind), 2), np.int64)  # of each part, in this row: the longest run, the sum of runs
    row = 0
    for n in range(len(at) + 1):
        if n == len(at) or at[n] >= stream.offsets[row + 1]:  # the row is done: runs [kept:count] are its
            for r in range(kept, count):
                p = runs[r, 1]
                size, longest = part_start[p + 1] - part_start[p], told[p, 0]
                half = min(size, max(2 * RUN, stream.offsets[row + 1] - stream.offsets[row]))
                worth = longest >= min(RUN, size) or (kind[p] == QUESTION and 2 * told[p, 1] >= half)
                if not worth:
                    runs[r, 4] = 0
            first = kept
            for r in range(first, count):
                told[runs[r, 1], 0], told[runs[r, 1], 1] = 0, 0
                if runs[r, 4] > 0:
                    for k in range(5):
                        runs[kept, k] = runs[r, k]
                    kept += 1
            count = kept
            if n == len(at):
                break
        while at[n] >= stream.offsets[row + 1]:
            row += 1
        begin, end = stream.offsets[row], stream.offsets[row + 1]
        low = np.int64(said[n] & np.uint64(0xFFFFFFFF))
        for k in range(low, low + np.int64(said[n] >> np.uint64(32) & np.uint64(0xFF))):
            i, q = at[n], np.int64(postings[k])
            slot = (q - i) & 4095
            if seen[slot, 0] == row + 1 and seen[slot, 1] == q - i and i < seen[slot, 2]:
                continue
            if stream.hash[i] != tokens[q]:
                continue
            p = part[q]
            first, last = part_start[p], part_start[p + 1]
            length = 1
            while i + length < end and q + length < last and stream.hash[i + length] == tokens[q + length]:
                length += 1
            while i > begin and q > first and stream.hash[i - 1] == tokens[q - 1]:
                i -= 1
                q -= 1
                length += 1
            seen[slot, 0], seen[slot, 1], seen[slot, 2] = row + 1, q - i, i + length
            if count == len(runs):
                runs = _grow(runs)
            runs[count, 0], runs[count, 1], runs[count, 2], runs[count, 3], runs[count, 4] = row, p, i, q, length
            told[p, 0], told[p, 1] = max(told[p, 0], length), told[p, 1] + length
            count += 1
    return runs, kept


@kernel
def _pairs(stream, found, ix):  # type: ignore[no-untyped-def]
    """Pairs int64 [n, 6] to measure: row, part, first and end of its aligned runs, first and end of those found; n;
    aligned runs int64 [m, 3] (i, q, length); m.

    found: runs ordered by row, part and place.
    """
    pairs, pair_count = np.empty((64, 6), np.int64), 0
    runs, count = np.empty((256, 3), np.int64), 0
    mark = np.zeros(_longest(ix.part_start), np.uint8)
    at, row, weak_row = 0, -1, -1
    while at < len(found):
        row, p = found[at, 0], found[at, 1]
        origin, size = ix.part_start[p], ix.part_start[p + 1] - ix.part_start[p]
        stop, best, covered, covered_weight, total_weight = at, at, 0, 0.0, 0.0
        while stop < len(found) and found[stop, 0] == row and found[stop, 1] == p:
            if found[stop, 4] > found[best, 4]:
                best = stop
            for t in range(found[stop, 3], found[stop, 3] + found[stop, 4]):
                if not mark[t - origin]:
                    mark[t - origin] = 1
                    covered += 1
                    covered_weight += ix.weight[t]
            stop += 1
        for t in range(size):
            mark[t] = 0
            total_weight += ix.weight[origin + t]
        longest = found[best, 4]
        hit = longest >= min(PASSAGE_RUN, size)
        # Half of the question, or of a text that is shorter.
        strong = 2 * covered >= min(size, max(2 * RUN, stream.offsets[row + 1] - stream.offsets[row]))
        if ix.kind[p] == QUESTION and not hit:
            hit = strong or (longest >= RUN and weak_row != row)
            if hit and not strong:
                weak_row = row
        if hit:
            first = count
            if ix.kind[p] == QUESTION and longest < size and (strong or covered_weight >= 0.4 * total_weight):
                runs, count = _align(stream, row, ix, p, found[best, 2], found[best, 3], runs, count)
            if count == first:
                for k in range(at, stop):
                    # A whole item found once is found; its other places add nothing.
                    if longest == size and k != best:
                        continue
                    if count == len(runs):
                        runs = _grow(runs)
                    runs[count, 0], runs[count, 1], runs[count, 2] = found[k, 2], found[k, 3], found[k, 4]
                    count += 1
            if pair_count == len(pairs):
                pairs = _grow(pairs)
            pairs[pair_count, 0], pairs[pair_count, 1] = row, p
            pairs[pair_count, 2], pairs[pair_count, 3] = first, count
            pairs[pair_count, 4], pairs[pair_count, 5] = at, stop
            pair_count += 1
        at = stop
    return pairs, pair_count, runs, count


@kernel
def _longest(starts):  # type: ignore[no-untyped-def]
    longest = 1
    for p in range(len(starts) - 1):
        longest = max(longest, starts[p + 1] - starts[p])
    return longest


@kernel
def _align(stream, row, ix, p, i, q, kept, count):  # type: ignore[no-untyped-def]
    """Align part p with the text around its best run; append the runs of the alignment, in order.

    A longest common subsequence in which a match that continues a run counts 3 and another 2, so that a scattered
    "the" does not tear a run apart. It may leave the diagonal of the best run by half the part's length. Gives nothing
    where the table would be larger than CELLS.
    """
    low, high = stream.offsets[row], stream.offsets[row + 1]
    origin, size = ix.part_start[p], ix.part_start[p + 1] - ix.part_start[p]
    slack = max(16, size // 2)
    width = 2 * slack + 1
    if width * size > CELLS:
        return kept, count
    # Column k of line a is text token base + a + k: along a diagonal a column stays, skipping an item token is one to
    # the right on the line before, skipping a text token one to the left on the same.
    base = i - (q - origin) - slack - 1
    score = np.zeros((2, width + 1), np.int32)
    step = np.zeros((size + 1, width), np.uint8)  # 1 match, 2 skip an item token, 3 skip a text token
    for a in range(1, size + 1):
        now, before = a & 1, (a - 1) & 1
        token = ix.tokens[origin + a - 1]
        first, last = low - base - a, high - base - a
        left = np.int32(0)
        for k in range(width):
            value, move = score[before, k + 1], 2
            if left > value:
                value, move = left, 3
            if k >= first and k < last and stream.hash[base + a + k] == token:
                match = score[before, k] + (3 if step[a - 1, k] == 1 else 2)
                if match >= value:
                    value, move = match, 1
            score[now, k], step[a, k] = value, move
            left = value
    a, k = size, width - 1
    first = count
    while a > 0 and k >= 0:
        move = step[a, k] if k < width else 2
        if move == 1:
            length = 0
            while a > 0 and step[a, k] == 1:
                a -= 1
                length += 1
            if count == len(kept):
                kept = _grow(kept)
            kept[count, 0], kept[count, 1], kept[count, 2] = base + a + 1 + k, origin + a, length
            count += 1
        elif move == 2:
            a -= 1
            k += 1
        else:
            k -= 1
    for r in range((count - first) // 2):
        for c in range(3):
            kept[first + r, c], kept[count - 1 - r, c] = kept[count - 1 - r, c], kept[first + r, c]
    return kept, count


def _cut_unequal(
    index: Index, fields: tuple[Field, Field], texts: tuple[pa.StringArray, pa.StringArray], stream: Stream,
    pairs: _I64, runs: _I64,
) -> int:  # fmt: skip
    """Cut runs, in place, where their bytes differ from the item's; how many. Equal hashes only claim.

    Bytes of ASCII are compared where they stand; rows that hold others, or differ, are normalised and compared again.
    """
    pairs = pairs[_unlike(pairs, runs, stream, *fields, ascii_folds(), index.arrays)]
    if not len(pairs):
        return 0
    rows, place = np.unique(pairs[:, 0], return_inverse=True)
    left, right = (buffers(normalise(text.take(pa.array(rows)))) for text in texts)
    begin = np.concatenate([[0], np.cumsum(np.diff(stream.offsets)[rows])]).astype(np.int64)
    starts, ends = _word_places(*left, *right, begin)
    return int(_compare(pairs, runs, place, stream, rows, begin, starts, ends, left[0], right[0], index.arrays))


@kernel
def _unlike(pairs, runs, stream, left, right, folds, ix):  # type: ignore[no-untyped-def]
    """Which pairs have a run whose bytes, letters of ASCII folded, are not the item's: bool [n]."""
    out = np.zeros(len(pairs), np.bool_)
    for n in range(len(pairs)):
        row, p = pairs[n, 0], pairs[n, 1]
        for r in range(pairs[n, 2], pairs[n, 3]):
            for k in range(runs[r, 2]):
                t = runs[r, 0] - stream.offsets[row] + k
                b = ix.text_start[p] + ix.start[runs[r, 1] + k]
                text, at = left, left.offsets[row] + t
                if t >= stream.split[row]:
                    text, at = right, right.offsets[row] + t - stream.split[row]
                first, last = text.at[row] + text.start[at], text.at[row] + text.end[at]
                stop = b + last - first
                same = stop == ix.text_start[p + 1] or (stop < ix.text_start[p + 1] and ix.text[stop] == 32)
                if same:
                    for c in range(first, last):
                        same &= folds[text.data[c]] == ix.text[b]
                        b += 1
                if not same:
                    out[n] = True
                    break
            if out[n]:
                break
    return out


@kernel
def _word_places(left, left_at, right, right_at, begin):  # type: ignore[no-untyped-def]
    """The bytes of every token of the rows' normalised fields (space-separated), field after field."""
    starts, ends = np.zeros(begin[-1], np.int64), np.zeros(begin[-1], np.int64)
    t = 0
    for row in range(len(begin) - 1):
        for field in range(2):
            data = left if field == 0 else right
            i, high = (left_at[row], left_at[row + 1]) if field == 0 else (right_at[row], right_at[row + 1])
            while i < high:
                starts[t] = i
                while i < high and data[i] != 32:
                    i += 1
                ends[t] = i
                t += 1
                i += 1
        assert t == begin[row + 1]
    return starts, ends


@kernel
def _compare(pairs, runs, place, stream, rows, begin, starts, ends, left, right, ix):  # type: ignore[no-untyped-def]
    """Cut each run at its first token whose bytes differ; how many were cut."""
    wrong = 0
    for n in range(len(pairs)):
        row, p = rows[place[n]], pairs[n, 1]
        for r in range(pairs[n, 2], pairs[n, 3]):
            b = ix.text_start[p] + ix.start[runs[r, 1]]
            for k in range(runs[r, 2]):
                t = runs[r, 0] - stream.offsets[row] + k
                data = left if t < stream.split[row] else right
                t += begin[place[n]]
                same = True
                for c in range(starts[t], ends[t]):
                    same &= b < ix.text_start[p + 1] and data[c] == ix.text[b]
                    b += 1
                same &= b == ix.text_start[p + 1] or ix.text[b] == 32
                b += 1
                if not same:
                    runs[r, 2] = k
                    wrong += 1
                    break
    return wrong


@kernel
def _is_digit(stream, left, right, row, t):  # type: ignore[no-untyped-def]
    """Whether token t of the stream begins with a digit."""
    k = t - stream.offsets[row]
    if k < stream.split[row]:
        c = left.data[left.at[row] + left.start[left.offsets[row] + k]]
    else:
        c = right.data[right.at[row] + right.start[right.offsets[row] + k - stream.split[row]]]
    return c >= 48 and c <= 57


@kernel
def _measure(pairs, runs, found, stream, left, right, turning, ix):  # type: ignore[no-untyped-def]
    """Per pair: _SHARES float32 [n, 7], _COUNTS int64 [n, 10] and the span's tokens in the stream int64 [n, 2]."""
    shares, counts = np.zeros((len(pairs), 7), np.float32), np.zeros((len(pairs), 10), np.int64)
    spans = np.zeros((len(pairs), 2), np.int64)
    longest_part = _longest(ix.part_start)
    mark = np.zeros(longest_part, np.uint8)  # by run length: 1 single, 2 two to seven, then bits for 8, 11, 13, 20
    gram = np.zeros(longest_part, np.uint8)
    for n in range(len(pairs)):
        row, p = pairs[n, 0], pairs[n, 1]
        origin, size, ask = ix.part_start[p], ix.part_start[p + 1] - ix.part_start[p], ix.ask[p]
        for t in range(size):
            mark[t], gram[t] = 0, 0
        longest, best = 0, pairs[n, 2]
        # What rules of n-grams read is in the runs as they were found: an alignment may part one to join two others.
        for r in range(pairs[n, 4], pairs[n, 5]):
            i, q, length = found[r, 2], found[r, 3], found[r, 4]
            longest = max(longest, length)
            level = 0
            if length >= 8:
                level |= 4
            if length >= 13:
                level |= 16
            if length >= 20:
                level |= 32
            for t in range(q - origin, q - origin + length):
                mark[t] |= level
            for t in range(q - origin, q - origin + length - RUN + 1):
                gram[t] = 1
            if length >= SKIP_RUN:
                skips, t, last = 0, length, length
                while skips <= SKIPS and i + t < stream.offsets[row + 1] and q + t < origin + size:
                    if stream.hash[i + t] == ix.tokens[q + t]:
                        last = t + 1
                    else:
                        skips += 1
                    t += 1
                if last > SKIP_RUN:
                    for t in range(q - origin, q - origin + last):
                        mark[t] |= 8
        for r in range(pairs[n, 2], pairs[n, 3]):
            length = runs[r, 2]
            if length > runs[best, 2]:
                best = r
            level = 1
            if length >= 2 or size == 1:
                level |= 2
            for t in range(runs[r, 1] - origin, runs[r, 1] - origin + length):
                mark[t] |= level
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
            w = ix.weight[origin + t] if ix.kind[p] == QUESTION else 1.0
            if t < ask:
                total_body += w
            else:
                total_ask += w
            if mark[t] & 2:
                if t < ask:
                    got_body += w
                else:
                    got_ask += w
            elif ix.number[origin + t] and w > 0:
                numbers = False
            counts[n, 3] += mark[t] & 1
            counts[n, 4] += mark[t] >> 2 & 1
            counts[n, 5] += mark[t] >> 3 & 1
            counts[n, 6] += mark[t] >> 4 & 1
            counts[n, 7] += mark[t] >> 5 & 1
            counts[n, 8] += gram[t]
        counts[n, 0], counts[n, 1], counts[n, 2] = size, stream.offsets[row + 1] - stream.offsets[row], longest
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
                numbers &= not _is_digit(stream, left, right, row, t)
                for word in turning:
                    numbers &= stream.hash[t] != word
            if runs[r + 1, 0] > i:
                for t in range(q, runs[r + 1, 1]):
                    swapped = max(swapped, ix.weight[t])
        # The same before the first of its words and after the last, where the text goes on there.
        head, tail = origin + size, origin
        for r in range(pairs[n, 2], pairs[n, 3]):
            if runs[r, 0] >= start and runs[r, 0] + runs[r, 2] <= end:
                head, tail = min(head, runs[r, 1]), max(tail, runs[r, 1] + runs[r, 2])
        if start > stream.offsets[row]:
            for t in range(origin, head):
                swapped = max(swapped, ix.weight[t])
        if end < stream.offsets[row + 1]:
            for t in range(tail, origin + size):
                swapped = max(swapped, ix.weight[t])
        shares[n, 3], shares[n, 6] = 1.0 if numbers else 0.0, swapped
        shares[n, 4] = got_body + got_ask
        exact = longest == size and stream.split[row] == size and start == stream.offsets[row]
        shares[n, 5] = 1.0 if exact else 0.0
    return shares, counts, spans


def _spelt(index: Index, texts: tuple[pa.StringArray, pa.StringArray], pairs: _I64) -> _I64:
    """Pairs and items (pair * items + item, ascending) where the text holds the question to the mark.

    Asked only of questions that items share but for their marks; a loop over the few such finds.
    """
    ix = index.arrays
    marked = np.zeros(len(ix.kind), np.bool_)
    items = np.flatnonzero(pc.not_equal(index.spelling, "").to_numpy(zero_copy_only=False))
    marked[ix.question[items]] = True
    found: list[int] = []
    for n in np.flatnonzero(marked[pairs[:, 1]]).tolist():
        row, part = int(pairs[n, 0]), int(pairs[n, 1])
        text = spell(f"{texts[0][row].as_py()} {texts[1][row].as_py()}")
        for item in sorted(set(ix.owner[ix.owner_start[part] : ix.owner_start[part + 1]].tolist())):
            spelling = index.spelling[item].as_py()
            if spelling and spelling in text:
                found.append(n * len(ix.question) + item)
    return np.array(found, np.int64)


@kernel
def _near(stream, low, high, start, end, tokens, begin, stop):  # type: ignore[no-untyped-def]
    """Whether tokens[begin:stop] stand in the stream's [low:high) outside [start:end)."""
    size = stop - begin
    i = low
    while i + size <= high:
        if i + size > start and i < end:
            i = end
            continue
        k = 0
        while k < size and stream.hash[i + k] == tokens[begin + k]:
            k += 1
        if k == size:
            return True
        i += 1
    return False


@kernel
def _contexts(pairs, spans, shares, spelt, stream, ix):  # type: ignore[no-untyped-def]
    """Each pair with each of its items int64 [n, 2], its context's bits and whether they do float32 [n, 2]; n."""
    out, count = np.empty((64, 2), np.int64), 0
    values = np.empty((64, 2), np.float32)
    for n in range(len(pairs)):
        row, p = pairs[n, 0], pairs[n, 1]
        owners = ix.owner_start[p + 1] - ix.owner_start[p]
        first = count
        backed = 0
        for o in range(ix.owner_start[p], ix.owner_start[p + 1]):
            item = ix.owner[o]
            bits, enough = 0.0, False
            # The questions on a passage are found for themselves; the first item stands for all that share the passage.
            if ix.kind[p] == PASSAGE:
                if o > ix.owner_start[p]:
                    break
            elif shares[n, 0] >= 0.5:
                start, end = spans[n, 0], spans[n, 1]
                reach = NEAR
                for c in range(ix.choice_start[item], ix.choice_start[item + 1]):
                    if ix.choice[c] >= 0:
                        reach += ix.part_start[ix.choice[c] + 1] - ix.part_start[ix.choice[c]] + 2
                low, high = max(stream.offsets[row], start - reach), min(stream.offsets[row + 1], end + reach)
                found, listed = 0, 0
                answered = False
                for c in range(ix.choice_start[item], ix.choice_start[item + 1]):
                    if ix.choice[c] < 0:
                        continue
                    listed += 1
                    a, b = ix.part_start[ix.choice[c]], ix.part_start[ix.choice[c] + 1]
                    if _near(stream, low, high, start, end, ix.tokens, a, b):
                        found += 1
                        for t in range(a, b):
                            bits += ix.weight[t]
                        answered |= ix.choice[c] == ix.answer[item]
                if ix.answer[item] >= 0 and not answered:
                    a, b = ix.part_start[ix.answer[item]], ix.part_start[ix.answer[item] + 1]
                    if _near(
                        stream,
                        max(stream.offsets[row], start - NEAR),
                        min(stream.offsets[row + 1], end + NEAR),
                        start,
                        end,
                        ix.tokens,
                        a,
                        b,
                    ):
                        answered = True
                        if listed == 0:
                            for t in range(a, b):
                                bits += ix.weight[t]
                enough = (listed > 0 and 2 * found >= listed) or (answered and (listed == 0 or bits >= 8))
                if ix.passage[item] >= 0:
                    k = n
                    while k > 0 and pairs[k - 1, 0] == row:
                        k -= 1
                    while k < len(pairs) and pairs[k, 0] == row:
                        if pairs[k, 1] == ix.passage[item] and shares[k, 0] >= 0.5:
                            enough = True
                            bits += 16
                        k += 1
                if len(spelt):
                    k = np.searchsorted(spelt, n * len(ix.question) + item)
                    if k < len(spelt) and spelt[k] == n * len(ix.question) + item:
                        enough = True
                        bits += 16
            if count == len(out):
                out, values = _grow(out), _grow(values)
            out[count, 0], out[count, 1] = n, item
            values[count, 0], values[count, 1] = bits, 1.0 if enough else 0.0
            backed += enough
            count += 1
        # Where many items ask the same, those with their own choices, answer or passage are the ones that were found.
        if owners > SHARED and ix.kind[p] == QUESTION:
            keep = first
            for k in range(first, count):
                if values[k, 1] > 0 or (backed == 0 and k == first):
                    for c in range(2):
                        out[keep, c], values[keep, c] = out[k, c], values[k, c]
                    keep += 1
            count = keep
    return out, values, count


@kernel
def _ends_sentence(data, low, high):  # type: ignore[no-untyped-def]
    """Whether one of . ? ! : ; " or a line break stands in data[low:high]."""
    for i in range(low, high):
        c = data[i]
        if c == 46 or c == 63 or c == 33 or c == 58 or c == 59 or c == 10 or c == 34:
            return True
    return False


@kernel
def _places(pairs, spans, stream, left, right):  # type: ignore[no-untyped-def]
    """Of each span: the field in which it begins, its first byte there and its last (it ends with the field), and
    whether sentence ends, or the field's own ends, stand on both sides of it."""
    fields, bounded = np.zeros(len(spans), np.uint8), np.zeros(len(spans), np.bool_)
    starts, ends = np.zeros(len(spans), np.int32), np.zeros(len(spans), np.int32)
    for n in range(len(spans)):
        row = pairs[n, 0]
        a, b = spans[n, 0] - stream.offsets[row], spans[n, 1] - stream.offsets[row]
        text = left
        if a >= stream.split[row]:
            fields[n], text = 1, right
            a, b = a - stream.split[row], b - stream.split[row]
        first, count, at = text.offsets[row], text.offsets[row + 1] - text.offsets[row], text.at[row]
        b = min(b, count)
        starts[n], ends[n] = text.start[first + a], text.end[first + b - 1]
        before = a == 0 or _ends_sentence(text.data, at + text.end[first + a - 1], at + starts[n])
        bounded[n] = before and (b == count or _ends_sentence(text.data, at + ends[n], at + text.start[first + b]))
    return fields, starts, ends, bounded


@kernel
def _grams13(pairs, found, stream, power):  # type: ignore[no-untyped-def]
    """The keys of the 13-grams in the runs found of each pair: uint64 and offsets int64 [n+1]."""
    total = 0
    for n in range(len(pairs)):
        for r in range(pairs[n, 4], pairs[n, 5]):
            total += max(0, found[r, 4] - 12)
    grams, offsets = np.empty(total, np.uint64), np.zeros(len(pairs) + 1, np.int64)
    at = 0
    for n in range(len(pairs)):
        for r in range(pairs[n, 4], pairs[n, 5]):
            for i in range(found[r, 2], found[r, 2] + found[r, 4] - 12):
                grams[at] = key_of(stream.prefix[i + 13] - stream.prefix[i] * power, 13)
                at += 1
        offsets[n + 1] = at
    return grams, offsets

"""The measures of a pair: how much of the item the text holds, in the ways in which rules read it, and where.

Every measure is a column of `filters.contamination.scan.HITS`, which documents them.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel
from dedup.tokens import longest_row
from filters.contamination.confirm import Texts
from filters.contamination.index import QUESTION, IndexArrays
from filters.contamination.layout import (
    ALIGNED_INDEX_TOKEN,
    ALIGNED_LENGTH,
    ALIGNED_TOKEN,
    ASK,
    BITS,
    BODY,
    COMMON,
    COUNT_COLUMNS,
    COVER,
    COVER8,
    COVER11,
    COVER13,
    COVER20,
    EXACT,
    GRAMS8,
    LONGEST,
    MIN_RUN,
    NUMBERS,
    OWN_TOKENS,
    PAIR_ALIGNED_END,
    PAIR_ALIGNED_START,
    PAIR_PART,
    PAIR_ROW,
    PAIR_RUN_END,
    PAIR_RUN_START,
    ROW_TOKENS,
    RUN_INDEX_TOKEN,
    RUN_LENGTH,
    RUN_TOKEN,
    SHARE_COLUMNS,
    SPAN_END,
    SPAN_START,
    SPAN_TOKENS,
    SWAPPED,
    TOKENS,
)
from filters.contamination.weights import DECISIVE, OPERATORS, ask_words, attached_operators, decisive_words

MAX_SKIPS, UNSKIPPED_TOKENS = 4, 10
"""Llama 2's skip-grams: up to four tokens of a match may differ, none of them among its first ten nor its last."""
NOT_ALIGNED_BITS = 99.0
"""`swapped` where runs are scattered over the text in another order: more than any word weighs."""

MAX_ASK_SWAPPED_BITS = 2.5
"""A replaced word of this weight in the last sentence, one in six questions or rarer, makes another question ("live in"
for "be from")."""
MAX_WEIGHT_OF_MANY = 12.0
"""Bits of the heaviest word among some thousand questions. Among fewer, the limit falls in proportion."""

# Bits of a token's mark: in a run of any length; in one of two or more (or all of a part of one); in runs of 8, 11
# (with skips), 13 and 20 or more. A single common word in a row of text is no evidence, hence the first two.
_COMMON, _COVERED, _IN_8, _IN_11, _IN_13, _IN_20 = 1, 2, 4, 8, 16, 32

_I64 = npt.NDArray[np.int64]
_F32 = npt.NDArray[np.float32]


class PairMeasures(NamedTuple):
    """shares: float32 [n, 7] (SHARE_COLUMNS); counts: int64 [n, 11] (COUNT_COLUMNS); spans: int64 [n, 2] (SPAN_*)."""

    shares: _F32
    counts: _I64
    spans: _I64


def measure_pairs(texts: Texts, arrays: IndexArrays, pairs: _I64, aligned: _I64, runs: _I64) -> PairMeasures:
    """Measure pairs int64 [n, 6] by their aligned runs int64 [m, 3] and the runs as found int64 [r, 5]."""
    ask_limit = MAX_ASK_SWAPPED_BITS * min(1.0, float(arrays.weight.max(initial=0)) / MAX_WEIGHT_OF_MANY)
    words = decisive_words(), ask_words(), attached_operators()
    return PairMeasures(*_measure(pairs, aligned, runs, texts.stream, *texts.fields, *words, ask_limit, arrays))


_OTHER, _DIGIT, _SYMBOL, _OPERATOR, _WORD = range(5)


@kernel
def _first_byte(stream, left, right, row, t):  # type: ignore[no-untyped-def]
    """The first byte of token t of the stream in the original text, and the token's bytes there."""
    k = t - stream.offsets[row]
    if k < stream.split[row]:
        n = left.offsets[row] + k
        return left.data[left.row_start[row] + left.start[n]], left.end[n] - left.start[n]
    n = right.offsets[row] + k - stream.split[row]
    return right.data[right.row_start[row] + right.start[n]], right.end[n] - right.start[n]


@kernel
def _kind(stream, left, right, row, t):  # type: ignore[no-untyped-def]
    """Whether token t of the stream begins with a digit, or is one letter, one of OPERATORS, or a longer ASCII word.

    "a", "i", "s" and "t" are mostly words and ends of words, and do not count as letters.
    """
    c, length = _first_byte(stream, left, right, row, t)
    if c >= 48 and c <= 57:
        return _DIGIT
    lower = c | 32
    if length > 1 or c >= 128:
        return _WORD if lower >= 97 and lower <= 122 else _OTHER
    if lower >= 97 and lower <= 122:
        return _OTHER if lower in (97, 105, 115, 116) else _SYMBOL
    for operator in OPERATORS:
        if c == operator:
            return _OPERATOR
    return _OTHER


@kernel
def _is_term(stream, left, right, row, t):  # type: ignore[no-untyped-def]
    """Whether token t of the stream is a number, a symbol or a round bracket."""
    if _kind(stream, left, right, row, t) in (_DIGIT, _SYMBOL):
        return True
    c, length = _first_byte(stream, left, right, row, t)
    return length == 1 and (c == 40 or c == 41)


@kernel
def _is_attached(stream, left, right, row, t, operators):  # type: ignore[no-untyped-def]
    """Whether token t is one of `operators` and touches a term on either side ("17!", "-3")."""
    for operator in operators:
        if stream.hash[t] == operator:
            before = t > stream.offsets[row] and _gap(stream, left, right, row, t - 1)[0] == 0
            if before and _is_term(stream, left, right, row, t - 1):
                return True
            after = t + 1 < stream.offsets[row + 1] and _gap(stream, left, right, row, t)[0] == 0
            return after and _is_term(stream, left, right, row, t + 1)
    return False


@kernel
def _gap(stream, left, right, row, t):  # type: ignore[no-untyped-def]
    """The bytes between tokens t and t + 1 of the stream, -1 if they are in two fields; and the first of them."""
    k = t - stream.offsets[row]
    if k + 1 == stream.split[row]:
        return -1, np.uint8(0)
    if k < stream.split[row]:
        n, at, data = left.offsets[row] + k, left.row_start[row], left.data
        low, high = left.end[n], left.start[n + 1]
    else:
        n, at, data = right.offsets[row] + k - stream.split[row], right.row_start[row], right.data
        low, high = right.end[n], right.start[n + 1]
    return (high - low, data[at + low]) if high > low else (0, np.uint8(0))


@kernel
def _one_space(stream, left, right, row, t):  # type: ignore[no-untyped-def]
    """Whether at most one byte, a space, stands between tokens t and t + 1 of the stream, in one field."""
    width, byte = _gap(stream, left, right, row, t)
    return width == 0 or (width == 1 and byte == 32)


@kernel
def _continues(stream, left, right, row, start, end, row_start, row_end, number, origin, size):  # type: ignore[no-untyped-def]
    """Whether a formula goes on beyond the span where the part's ends ("x^2" in "x^2 - 6x", "2 + 3" in "9 * 2 + 3")."""
    if (
        end + 1 < row_end
        and number[origin + size - 1]
        and _kind(stream, left, right, row, end) == _OPERATOR
        and _one_space(stream, left, right, row, end - 1)
        and _one_space(stream, left, right, row, end)
    ):
        kind = _kind(stream, left, right, row, end + 1)
        if kind in (_DIGIT, _SYMBOL):
            return True
    if (
        start - 1 > row_start
        and number[origin]
        and _kind(stream, left, right, row, start - 1) == _OPERATOR
        and _one_space(stream, left, right, row, start - 1)
        and _one_space(stream, left, right, row, start - 2)
    ):
        kind = _kind(stream, left, right, row, start - 2)
        return kind in (_DIGIT, _SYMBOL)
    return False


# The kernels below take arrays and numbers of one pair, not the tuples `stream` and `ix`. Passing a tuple of arrays to
# a function costs as much as measuring a pair.


@kernel
def _mark_runs(runs, first, stop, hashes, row_end, tokens, origin, size, mark, gram):  # type: ignore[no-untyped-def]
    """Mark the part's tokens that lie in long runs, and in `gram` the tokens at which a shared 8-gram begins.

    Rules of n-grams read the runs as they were found: an alignment may part one run to join two others. Returns the
    length of the longest.
    """
    longest = 0
    for r in range(first, stop):
        i, q, length = runs[r, RUN_TOKEN], runs[r, RUN_INDEX_TOKEN], runs[r, RUN_LENGTH]
        longest = max(longest, length)
        level = 0
        if length >= 8:
            level |= _IN_8
        if length >= 13:
            level |= _IN_13
        if length >= 20:
            level |= _IN_20
        for t in range(q - origin, q - origin + length):
            mark[t] |= level
        for t in range(q - origin, q - origin + length - MIN_RUN + 1):
            gram[t] = 1
        if length >= UNSKIPPED_TOKENS:
            # On beyond the run, over up to MAX_SKIPS tokens that differ, to the last token that is equal.
            skips, t, last = 0, length, length
            while skips <= MAX_SKIPS and i + t < row_end and q + t < origin + size:
                if hashes[i + t] == tokens[q + t]:
                    last = t + 1
                else:
                    skips += 1
                t += 1
            if last > UNSKIPPED_TOKENS:
                for t in range(q - origin, q - origin + last):
                    mark[t] |= _IN_11
    return longest


@kernel
def _mark_aligned(aligned, first, stop, origin, size, mark):  # type: ignore[no-untyped-def]
    """Mark the part's tokens in aligned runs. Returns the span: its first token in the stream, and its end.

    The span holds all runs of an alignment, or, where runs lie scattered over a long text, those near the longest.
    """
    best = first
    for r in range(first, stop):
        length = aligned[r, ALIGNED_LENGTH]
        if length > aligned[best, ALIGNED_LENGTH]:
            best = r
        level = _COMMON
        if length >= 2 or size == 1:
            level |= _COVERED
        for t in range(aligned[r, ALIGNED_INDEX_TOKEN] - origin, aligned[r, ALIGNED_INDEX_TOKEN] - origin + length):
            mark[t] |= level
    diagonal = aligned[best, ALIGNED_TOKEN] - aligned[best, ALIGNED_INDEX_TOKEN]
    start, end = aligned[best, ALIGNED_TOKEN], aligned[best, ALIGNED_TOKEN] + aligned[best, ALIGNED_LENGTH]
    for r in range(first, stop):
        offset = abs((aligned[r, ALIGNED_TOKEN] - aligned[r, ALIGNED_INDEX_TOKEN]) - diagonal)
        if aligned[r, ALIGNED_LENGTH] >= 2 and offset <= max(16, size // 2):
            start = min(start, aligned[r, ALIGNED_TOKEN])
            end = max(end, aligned[r, ALIGNED_TOKEN] + aligned[r, ALIGNED_LENGTH])
    return start, end


@kernel
def _swapped(  # type: ignore[no-untyped-def]
    aligned, first, stop, start, end, is_whole, row_start, row_end, weight, origin, size, since
):
    """The most bits of a word of the part, from its token `since` on, that other words of the text replace.

    is_whole: one run holds all of it.
    """
    swapped = 0.0
    # Between two neighbouring runs of the span: index tokens left out where text tokens were put in.
    for r in range(first, stop - 1):
        i = aligned[r, ALIGNED_TOKEN] + aligned[r, ALIGNED_LENGTH]
        following = aligned[r + 1, ALIGNED_TOKEN]
        if i < start or following >= end or is_whole:
            continue
        if following < i:  # runs in another order than the part's are no alignment
            swapped = NOT_ALIGNED_BITS
            continue
        if following > i:
            for t in range(
                max(origin + since, aligned[r, ALIGNED_INDEX_TOKEN] + aligned[r, ALIGNED_LENGTH]),
                aligned[r + 1, ALIGNED_INDEX_TOKEN],
            ):
                # A word of a frame weighs nothing; in what is asked it still decides ("the sum of all values").
                swapped = max(swapped, weight[t] if weight[t] > 0 or since == 0 else MAX_ASK_SWAPPED_BITS)
    # The same before the first and after the last token of the part, where the row has text there.
    head, tail = origin + size, origin
    for r in range(first, stop):
        if aligned[r, ALIGNED_TOKEN] >= start and aligned[r, ALIGNED_TOKEN] + aligned[r, ALIGNED_LENGTH] <= end:
            q = aligned[r, ALIGNED_INDEX_TOKEN]
            head, tail = min(head, q), max(tail, q + aligned[r, ALIGNED_LENGTH])
    if start > row_start:
        for t in range(origin + since, head):
            swapped = max(swapped, weight[t])
    if end < row_end:
        for t in range(max(origin + since, tail), origin + size):
            swapped = max(swapped, weight[t])
    return swapped


@kernel
def _adds_number(  # type: ignore[no-untyped-def]
    aligned, first, stop, start, end, row, row_start, row_end, stream, left, right, decisive, in_ask, attached,
    origin, size, ask, template,
):  # fmt: skip
    """Whether a digit, decisive word or operator attached to a term stands between two runs of the span.

    In place of tokens of a template, any word. From index token `ask` on, also a symbol, an operator before a digit or
    symbol, or a word of `in_ask`. Where the span lacks the first or the last token of the part, the two tokens before
    or after it count as well ("is not").
    """
    head, tail = origin + size, origin
    for r in range(first, stop):
        if aligned[r, ALIGNED_TOKEN] >= start and aligned[r, ALIGNED_TOKEN] + aligned[r, ALIGNED_LENGTH] <= end:
            q = aligned[r, ALIGNED_INDEX_TOKEN]
            head, tail = min(head, q), max(tail, q + aligned[r, ALIGNED_LENGTH])
    low = max(row_start, start - 2) if head > origin else start
    high = min(row_end, end + 2) if tail < origin + size else end
    for t in range(low, high):
        if t < start or t >= end:
            for word in decisive:
                if stream.hash[t] == word:
                    return True
    for r in range(first, stop - 1):
        i = aligned[r, ALIGNED_TOKEN] + aligned[r, ALIGNED_LENGTH]
        following = aligned[r + 1, ALIGNED_TOKEN]
        if i < start or following >= end:
            continue
        asked = aligned[r + 1, ALIGNED_INDEX_TOKEN] >= ask
        replaces = aligned[r + 1, ALIGNED_INDEX_TOKEN] > aligned[r, ALIGNED_INDEX_TOKEN] + aligned[r, ALIGNED_LENGTH]
        for t in range(i, following):
            kind = _kind(stream, left, right, row, t)
            if kind == _DIGIT or (template and replaces and kind == _WORD):
                return True
            if _is_attached(stream, left, right, row, t, attached):
                return True
            if asked and kind == _SYMBOL:
                return True
            if asked and kind == _OPERATOR and t + 1 < end:
                after = _kind(stream, left, right, row, t + 1)
                if after in (_DIGIT, _SYMBOL):
                    return True
            for word in decisive:
                if stream.hash[t] == word:
                    return True
            if asked:
                for word in in_ask:
                    if stream.hash[t] == word:
                        return True
    return False


@kernel
def _holds_needed(mark, number, slot, size):  # type: ignore[no-untyped-def]
    """Whether all tokens that decide, and all slots of a template, were found between the first and the last found.

    The ends may belong to a frame. number, slot: uint8 [size or more].
    """
    first, last = 0, size - 1
    while first < size and not mark[first] & _COMMON:
        first += 1
    while last > first and not mark[last] & _COMMON:
        last -= 1
    held = True
    for t in range(first, last + 1):
        held &= not (slot[t] or number[t] == DECISIVE) or mark[t] & _COMMON != 0
    return held


@kernel
def _measure(pairs, aligned, runs, stream, left, right, decisive, in_ask, attached, ask_limit, ix):  # type: ignore[no-untyped-def]
    shares = np.zeros((len(pairs), len(SHARE_COLUMNS)), np.float32)
    counts = np.zeros((len(pairs), len(COUNT_COLUMNS)), np.int64)
    spans = np.zeros((len(pairs), 2), np.int64)
    most = longest_row(ix.part_start)
    mark, gram = np.zeros(most, np.uint8), np.zeros(most, np.uint8)
    hashes, tokens, weights = stream.hash, ix.tokens, ix.weight
    for n in range(len(pairs)):
        row, p = pairs[n, PAIR_ROW], pairs[n, PAIR_PART]
        first, stop = pairs[n, PAIR_ALIGNED_START], pairs[n, PAIR_ALIGNED_END]
        row_start, row_end = stream.offsets[row], stream.offsets[row + 1]
        origin, size, ask = ix.part_start[p], ix.part_start[p + 1] - ix.part_start[p], ix.ask[p]
        for t in range(size):
            mark[t], gram[t] = 0, 0
        longest = _mark_runs(
            runs, pairs[n, PAIR_RUN_START], pairs[n, PAIR_RUN_END], hashes, row_end, tokens, origin, size, mark, gram
        )
        start, end = _mark_aligned(aligned, first, stop, origin, size, mark)
        spans[n, SPAN_START], spans[n, SPAN_END] = start, end
        counts[n, SPAN_TOKENS] = end - start
        # One pass over the part's tokens: the weight found in its body and in its last sentence, and the counts.
        body_total, ask_total, body_found, ask_found, numbers = 0.0, 0.0, 0.0, 0.0, True
        for t in range(size):
            weight = weights[origin + t] if ix.kind[p] == QUESTION else 1.0
            if t < ask:
                body_total += weight
            else:
                ask_total += weight
            if mark[t] & _COVERED:
                if t < ask:
                    body_found += weight
                else:
                    ask_found += weight
            elif (ix.number[origin + t] and t >= ask) or (ix.number[origin + t] == DECISIVE and weight > 0):
                numbers = False  # a number of the benchmark's frame need not be found, unless it is asked about
            counts[n, COMMON] += mark[t] & _COMMON
            counts[n, COVER8] += (mark[t] & _IN_8) != 0
            counts[n, COVER11] += (mark[t] & _IN_11) != 0
            counts[n, COVER13] += (mark[t] & _IN_13) != 0
            counts[n, COVER20] += (mark[t] & _IN_20) != 0
            counts[n, GRAMS8] += gram[t]
        template = ix.slot[origin : origin + size].any()
        if numbers and ix.kind[p] == QUESTION:
            numbers = _holds_needed(mark, ix.number[origin:], ix.slot[origin:], size)
        counts[n, TOKENS], counts[n, LONGEST], counts[n, OWN_TOKENS] = size, longest, ix.own[p]
        counts[n, ROW_TOKENS] = row_end - row_start
        is_whole = longest == size
        if numbers and not is_whole:
            numbers = not _adds_number(
                aligned, first, stop, start, end, row, row_start, row_end, stream, left, right, decisive, in_ask,
                attached, origin, size, origin + ask, template,
            )  # fmt: skip
        if numbers and ix.kind[p] == QUESTION:
            numbers = not _continues(
                stream, left, right, row, start, end, row_start, row_end, ix.number, origin, size
            ) and (
                is_whole
                or _swapped(aligned, first, stop, start, end, False, row_start, row_end, weights, origin, size, ask)
                < ask_limit
            )
        shares[n, COVER] = (body_found + ask_found) / max(body_total + ask_total, 1e-6)
        shares[n, BODY] = body_found / body_total if body_total > 0 else 0.0
        shares[n, ASK] = ask_found / ask_total if ask_total > 0 else 1.0
        shares[n, NUMBERS] = 1.0 if numbers else 0.0
        shares[n, BITS] = body_found + ask_found
        shares[n, EXACT] = 1.0 if is_whole and stream.split[row] == size and start == row_start else 0.0
        shares[n, SWAPPED] = _swapped(
            aligned, first, stop, start, end, is_whole, row_start, row_end, weights, origin, size, 0
        )
    return shares, counts, spans


class Places(NamedTuple):
    """Where the spans of pairs lie [n]: field uint8, 0 for the instruction, 1 for the response; start, end int32, bytes
    in that field; bounded bool, whether a sentence end, or the field's own end, stands on both sides."""

    field: npt.NDArray[np.uint8]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    bounded: npt.NDArray[np.bool_]


def place_spans(texts: Texts, pairs: _I64, spans: _I64) -> Places:
    """Spans of tokens int64 [n, 2] as bytes. A span belongs to the field in which it begins, and ends with it."""
    return Places(*cast(Places, _places(pairs, spans, texts.stream, *texts.fields)))


@kernel
def _ends_sentence(data, low, high):  # type: ignore[no-untyped-def]
    """Whether one of . ? ! : ; " or a line feed stands in data[low:high]."""
    for i in range(low, high):
        c = data[i]
        if c == 46 or c == 63 or c == 33 or c == 58 or c == 59 or c == 34 or c == 10:
            return True
    return False


@kernel
def _places(pairs, spans, stream, left, right):  # type: ignore[no-untyped-def]
    fields, bounded = np.zeros(len(spans), np.uint8), np.zeros(len(spans), np.bool_)
    starts, ends = np.zeros(len(spans), np.int32), np.zeros(len(spans), np.int32)
    for n in range(len(spans)):
        row = pairs[n, PAIR_ROW]
        a, b = spans[n, SPAN_START] - stream.offsets[row], spans[n, SPAN_END] - stream.offsets[row]
        text = left
        if a >= stream.split[row]:
            fields[n], text = 1, right
            a, b = a - stream.split[row], b - stream.split[row]
        first, count, at = text.offsets[row], text.offsets[row + 1] - text.offsets[row], text.row_start[row]
        b = min(b, count)
        starts[n], ends[n] = text.start[first + a], text.end[first + b - 1]
        before = a == 0 or _ends_sentence(text.data, at + text.end[first + a - 1], at + starts[n])
        bounded[n] = before and (b == count or _ends_sentence(text.data, at + ends[n], at + text.start[first + b]))
    return fields, starts, ends, bounded

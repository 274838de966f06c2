"""The context of a question: whether its choices, answer or passage stand near it, and which items that supports."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from dedup.growing import doubled
from dedup.kernel import kernel
from filters.contamination.confirm import Texts
from filters.contamination.index import PASSAGE, QUESTION, BenchmarkIndex, visible_characters
from filters.contamination.layout import (
    CONTEXT_BITS,
    CONTEXT_ENOUGH,
    COVER,
    OWNER_ITEM,
    OWNER_PAIR,
    PAIR_PART,
    PAIR_ROW,
    SPAN_END,
    SPAN_START,
)
from filters.contamination.measures import PairMeasures

ANSWER_WINDOW_TOKENS = 50
"""Tokens on either side of a question in which its answer is near. Choices may lie farther off by their own length,
since a list of choices often stands between a question and its last choice."""
MIN_CONTEXT_COVER = 0.5
"""Share of a question's, or a passage's, weight below which no context is looked for."""
MIN_ANSWER_BITS = 8.0
"""Bits of context that an answer needs as support where an item has choices: one common word is no answer."""
SUPPORT_BITS = 16.0
"""Bits that a passage in the same text, or the exact punctuation of a question, adds: as much as the rarest word."""
MAX_SHARED_ITEMS = 3
"""A question that more items of one benchmark share identifies none of them without choices, answer or passage."""

_I64 = npt.NDArray[np.int64]


class Contexts(NamedTuple):
    """Each pair with each of its items, by pair, then item.

    pair, item: int64 [n]; bits: float32 [n], what the context found adds; enough: bool [n], whether it supports the
    item.
    """

    pair: _I64
    item: _I64
    bits: npt.NDArray[np.float32]
    enough: npt.NDArray[np.bool_]


def find_contexts(index: BenchmarkIndex, texts: Texts, pairs: _I64, measures: PairMeasures) -> Contexts:
    """Look for the context of every pair int64 [n, 6]. Choices are looked for one by one, in any order or lettering."""
    owners, values, count = _contexts(
        pairs, measures.spans, measures.shares, _same_spelling(index, texts, pairs), texts.stream, index.arrays
    )
    owners, values = owners[:count], values[:count]
    return Contexts(
        owners[:, OWNER_PAIR], owners[:, OWNER_ITEM], values[:, CONTEXT_BITS], values[:, CONTEXT_ENOUGH] > 0
    )


def _same_spelling(index: BenchmarkIndex, texts: Texts, pairs: _I64) -> _I64:
    """pair * items + item, ascending int64, where the text holds the question with the same punctuation.

    Only for questions that items share up to punctuation, which are few: a loop over their pairs.
    """
    ix = index.arrays
    checked = np.zeros(len(ix.kind), np.bool_)
    items = np.flatnonzero(pc.not_equal(index.spelling, "").to_numpy(zero_copy_only=False))
    checked[ix.question[items]] = True
    same: list[int] = []
    instructions, responses = texts.columns
    for n in np.flatnonzero(checked[pairs[:, PAIR_PART]]).tolist():
        row, part = int(pairs[n, PAIR_ROW]), int(pairs[n, PAIR_PART])
        text = visible_characters(f"{instructions[row].as_py()} {responses[row].as_py()}")
        for item in sorted(set(ix.owner[ix.owner_start[part] : ix.owner_start[part + 1]].tolist())):
            spelling = index.spelling[item].as_py()
            if spelling and spelling in text:
                same.append(n * len(ix.question) + item)
    return np.array(same, np.int64)


@kernel
def _occurs(stream, low, high, start, end, tokens, begin, stop):  # type: ignore[no-untyped-def]
    """Whether tokens[begin:stop] occur in the stream's [low:high) outside [start:end)."""
    size = stop - begin
    i = low
    while i + size <= high:
        if i + size > start and i < end:
            i = end  # the question itself does not count as its context
            continue
        k = 0
        while k < size and stream.hash[i + k] == tokens[begin + k]:
            k += 1
        if k == size:
            return True
        i += 1
    return False


@kernel
def _contexts(pairs, spans, shares, same_spelling, stream, ix):  # type: ignore[no-untyped-def]
    """Pairs with items int64 [n, 2] (OWNER_*), their context float32 [n, 2] (CONTEXT_*), and how many are used."""
    out, count = np.empty((64, 2), np.int64), 0
    values = np.empty((64, 2), np.float32)
    for n in range(len(pairs)):
        row, p = pairs[n, PAIR_ROW], pairs[n, PAIR_PART]
        owners = ix.owner_start[p + 1] - ix.owner_start[p]
        first = count
        supported = 0
        for o in range(ix.owner_start[p], ix.owner_start[p + 1]):
            item = ix.owner[o]
            bits, enough = 0.0, False
            if ix.kind[p] == PASSAGE:
                # The questions about a passage are found by themselves; its first item stands for all that share it.
                if o > ix.owner_start[p]:
                    break
            elif shares[n, COVER] >= MIN_CONTEXT_COVER:
                start, end = spans[n, SPAN_START], spans[n, SPAN_END]
                window = ANSWER_WINDOW_TOKENS
                for c in range(ix.choice_start[item], ix.choice_start[item + 1]):
                    if ix.choice[c] >= 0:
                        # Two tokens for a choice's letter and mark, as in "(a)".
                        window += ix.part_start[ix.choice[c] + 1] - ix.part_start[ix.choice[c]] + 2
                low, high = max(stream.offsets[row], start - window), min(stream.offsets[row + 1], end + window)
                near, listed = 0, 0
                answered = False
                for c in range(ix.choice_start[item], ix.choice_start[item + 1]):
                    if ix.choice[c] < 0:
                        continue
                    listed += 1
                    a, b = ix.part_start[ix.choice[c]], ix.part_start[ix.choice[c] + 1]
                    if _occurs(stream, low, high, start, end, ix.tokens, a, b):
                        near += 1
                        for t in range(a, b):
                            bits += ix.weight[t]
                        answered |= ix.choice[c] == ix.answer[item]
                if ix.answer[item] >= 0 and not answered:
                    a, b = ix.part_start[ix.answer[item]], ix.part_start[ix.answer[item] + 1]
                    low = max(stream.offsets[row], start - ANSWER_WINDOW_TOKENS)
                    high = min(stream.offsets[row + 1], end + ANSWER_WINDOW_TOKENS)
                    if _occurs(stream, low, high, start, end, ix.tokens, a, b):
                        answered = True
                        if listed == 0:
                            for t in range(a, b):
                                bits += ix.weight[t]
                # Of three or more choices two thirds, since other items on the same subject share some.
                many = 2 * near >= listed if listed < 3 else 3 * near >= 2 * listed
                enough = (listed > 0 and many) or (answered and (listed == 0 or bits >= MIN_ANSWER_BITS))
                if ix.passage[item] >= 0:
                    # The item's passage among the pairs of the same row, which lie side by side.
                    k = n
                    while k > 0 and pairs[k - 1, PAIR_ROW] == row:
                        k -= 1
                    while k < len(pairs) and pairs[k, PAIR_ROW] == row:
                        if pairs[k, PAIR_PART] == ix.passage[item] and shares[k, COVER] >= MIN_CONTEXT_COVER:
                            enough = True
                            bits += SUPPORT_BITS
                        k += 1
                if len(same_spelling):
                    key = n * len(ix.question) + item
                    k = np.searchsorted(same_spelling, key)
                    if k < len(same_spelling) and same_spelling[k] == key:
                        enough = True
                        bits += SUPPORT_BITS
            if count == len(out):
                out, values = doubled(out), doubled(values)
            out[count, OWNER_PAIR], out[count, OWNER_ITEM] = n, item
            values[count, CONTEXT_BITS], values[count, CONTEXT_ENOUGH] = bits, 1.0 if enough else 0.0
            supported += enough
            count += 1
        # Of many items with the same question, those with context are kept, or the first where none has any.
        if owners > MAX_SHARED_ITEMS and ix.kind[p] == QUESTION:
            keep = first
            for k in range(first, count):
                if values[k, CONTEXT_ENOUGH] > 0 or (supported == 0 and k == first):
                    for c in range(2):
                        out[keep, c], values[keep, c] = out[k, c], values[k, c]
                    keep += 1
            count = keep
    return out, values, count

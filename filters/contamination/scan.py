"""Scan texts against a benchmark index: what each text shares with each item, as hits.

Seeds that stand in a text are extended to runs, the runs of one part of an item are aligned with the text around them,
and the aligned tokens are confirmed byte by byte: no hit rests on a hash alone.

The scan is exhaustive with one exception. A text shares phrases of 8 to 12 tokens of LaTeX or code with hundreds of
questions; of such weak pairs (less than half of the question, no 13-gram) each text keeps one.

The stages are modules of this package, in the order in which a text meets them: `stream` (both fields as one stream of
tokens), `seeds` (rare n-grams of the index that it holds), `runs` (seeds extended), `align` (pairs of a row and a
part), `confirm` (bytes compared), `measures` and `context` (the columns of a hit). `layout` names the columns of the
matrices that they pass on, `grams` hashes and counts n-grams. `index` is built by way of `weights` and `seeds`.

A scan takes about 60 bytes of memory for each token of CHUNK_BYTES of text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.kernel import buffers
from filters.contamination.align import align_pairs
from filters.contamination.confirm import Texts, cut_unequal, cut_unequal_runs
from filters.contamination.context import find_contexts
from filters.contamination.grams import GRAM_COUNTS, count_grams, pair_grams, sum_gram_counts
from filters.contamination.index import BenchmarkIndex
from filters.contamination.layout import (
    ALIGNED_LENGTH,
    BITS,
    COUNT_COLUMNS,
    EXACT,
    MIN_RUN,
    PAIR_ALIGNED_START,
    PAIR_PART,
    PAIR_ROW,
    RUN_LENGTH,
    RUN_ROW,
    SHARE_COLUMNS,
    TOKENS,
)
from filters.contamination.measures import PairMeasures, measure_pairs, place_spans
from filters.contamination.runs import find_runs
from filters.contamination.seeds import find_seeds
from filters.contamination.stream import read_stream

CHUNK_BYTES = 8 << 20
"""Bytes of text scanned at a time. Chunks of this size stay in the processor's cache, which is half as fast again."""
MIN_WHOLE_BITS = 30.0
"""A question of fewer than MIN_RUN tokens is a hit if its words weigh this much, about two rare words, or if something
beside it supports it."""

HITS = pa.schema(
    [
        ("row", pa.int32()), ("item", pa.int32()), ("kind", pa.uint8()),
        ("cover", pa.float32()), ("body", pa.float32()), ("ask", pa.float32()),
        ("numbers", pa.bool_()), ("swapped", pa.float32()), ("bits", pa.float32()),
        ("context_bits", pa.float32()), ("context", pa.bool_()), ("exact", pa.bool_()), ("bounded", pa.bool_()),
        ("tokens", pa.int32()), ("row_tokens", pa.int32()), ("longest", pa.int32()), ("common", pa.int32()),
        ("cover8", pa.int32()), ("cover11", pa.int32()), ("cover13", pa.int32()), ("cover20", pa.int32()),
        ("grams8", pa.int32()), ("span_tokens", pa.int32()), ("own_tokens", pa.int32()),
        ("field", pa.uint8()), ("start", pa.int32()), ("end", pa.int32()), ("grams13", pa.list_(pa.uint64())),
    ]
)  # fmt: skip
"""What one text shares with one item.

kind: QUESTION or PASSAGE, the part of the item that was found.
cover, body, ask: shares (0 to 1) of its weight found: of all of it, of all but its last sentence, of its last sentence.
numbers: whether every number, operator and negation of it was found, and no other digit or negation between its tokens.
swapped: bits of the heaviest of its words that other words replace.
bits: weight of the tokens found. context_bits: weight that choices, answer and passage near it add. context: whether
those suffice as support.
exact: whether the instruction consists of its tokens alone. bounded: whether sentence ends stand on both sides of the
span.
tokens, row_tokens: lengths of the part and the text. longest: tokens of the longest shared run. common: shared tokens,
in order. coverN: its tokens in shared runs of N tokens or more, for 11 with skips. grams8: its 8-grams found.
span_tokens: tokens of the text from the first to the last shared one. own_tokens: of the part outside its figure.
field: 0 instruction, 1 response. start, end: bytes of the span in that field. grams13: keys of the 13-grams shared.
"""

_Flags = npt.NDArray[np.bool_]


class ScanResult(NamedTuple):
    """hits: HITS, ordered by row, part and item. grams: GRAM_COUNTS, the n-grams of the index that the texts hold."""

    hits: pa.Table
    grams: pa.Table


def scan_texts(index: BenchmarkIndex, instruction: pa.StringArray, response: pa.StringArray) -> ScanResult:
    """Measure what the texts [rows] share with every item, and count the n-grams that they share.

    The two fields of a row are read as one text, so an item that begins in one and ends in the other is found.
    """
    ends = np.cumsum(sum(np.diff(buffers(field)[1]) for field in (instruction, response)))
    hits, grams, begin = [HITS.empty_table()], [GRAM_COUNTS.empty_table()], 0
    while begin < len(ends):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + CHUNK_BYTES, "right")))
        part = _scan_chunk(index, instruction.slice(begin, end - begin), response.slice(begin, end - begin))
        rows = pc.add(part.hits["row"], pa.scalar(begin, pa.int32()))
        hits.append(part.hits.set_column(0, HITS.field("row"), rows))
        grams.append(part.grams)
        begin = end
    return ScanResult(pa.concat_tables(hits).combine_chunks(), sum_gram_counts(grams))


def _scan_chunk(index: BenchmarkIndex, instruction: pa.StringArray, response: pa.StringArray) -> ScanResult:
    ix = index.arrays
    stream, fields = read_stream(instruction, response)
    texts = Texts((instruction, response), fields, stream)
    runs = find_runs(stream, *find_seeds(stream, index.seeds), ix)
    # Runs that rules of n-grams read are confirmed before anything is counted.
    long = np.flatnonzero(runs[:, RUN_LENGTH] >= MIN_RUN)
    confirmed = cut_unequal_runs(texts, ix, runs[long])
    runs[long, RUN_LENGTH] = confirmed[:, ALIGNED_LENGTH]
    grams = count_grams(stream.prefix, runs[long, RUN_ROW], confirmed)

    pairs, aligned = align_pairs(stream, runs, ix)
    if not len(pairs):
        return ScanResult(HITS.empty_table(), grams)
    measures = measure_pairs(texts, ix, pairs, aligned, runs)
    hit = _is_hit(index, texts, pairs, measures)
    if cut_unequal(texts, ix, pairs[hit], aligned):
        # A cut changes the measures; a pair that lost all of its tokens is no hit.
        hit &= np.add.reduceat(np.append(aligned[:, ALIGNED_LENGTH], 0), pairs[:, PAIR_ALIGNED_START]) > 0
        measures = measure_pairs(texts, ix, pairs, aligned, runs)
    pairs = pairs[hit]
    measures = PairMeasures(measures.shares[hit], measures.counts[hit], measures.spans[hit])
    if not len(pairs):
        return ScanResult(HITS.empty_table(), grams)
    return ScanResult(_hits(index, texts, pairs, measures, runs), grams)


def _is_hit(index: BenchmarkIndex, texts: Texts, pairs: npt.NDArray[np.int64], measures: PairMeasures) -> _Flags:
    """Which pairs are hits: a few words that make a whole question ("the heart has") only with enough weight, as the
    whole instruction, or with context near them."""
    shares = measures.shares
    hit: _Flags = (measures.counts[:, TOKENS] >= MIN_RUN) | (shares[:, BITS] >= MIN_WHOLE_BITS) | (shares[:, EXACT] > 0)
    contexts = find_contexts(index, texts, pairs, measures)
    hit[contexts.pair[contexts.enough]] = True
    return hit


def _hits(
    index: BenchmarkIndex,
    texts: Texts,
    pairs: npt.NDArray[np.int64],
    measures: PairMeasures,
    runs: npt.NDArray[np.int64],
) -> pa.Table:
    """HITS: a row for each pair and item."""
    contexts = find_contexts(index, texts, pairs, measures)
    by_pair: dict[str, Any] = {
        "row": pairs[:, PAIR_ROW].astype(np.int32),
        "kind": index.arrays.kind[pairs[:, PAIR_PART]],
        **{name: measures.shares[:, i] for i, name in enumerate(SHARE_COLUMNS)},
        **{name: measures.counts[:, i].astype(np.int32) for i, name in enumerate(COUNT_COLUMNS)},
        **place_spans(texts, pairs, measures.spans)._asdict(),
    }
    by_pair |= {"numbers": by_pair["numbers"] > 0, "exact": by_pair["exact"] > 0}
    columns = {name: pa.array(values[contexts.pair]) for name, values in by_pair.items()}
    columns |= {
        "item": pa.array(contexts.item.astype(np.int32)),
        "context_bits": pa.array(contexts.bits),
        "context": pa.array(contexts.enough),
    }
    keys, offsets = pair_grams(pairs, runs, texts.stream.prefix, 13)
    grams13 = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(keys))
    columns["grams13"] = grams13.take(pa.array(contexts.pair))
    return pa.table([columns[name] for name in HITS.names], schema=HITS)

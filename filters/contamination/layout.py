"""The columns of the integer and float matrices that the kernels of a scan pass on, and lengths that several share.

Numba compiles one type of array faster than a tuple of arrays, so a run or a pair is a row of a matrix and these are
the names of its columns. "Token" counts tokens of the text stream (`filters.contamination.stream`), "index token" those
of the benchmark index.
"""

from __future__ import annotations

from dedup.readings import Reading

READING: Reading = "markup_free"
"""The reading in which texts and items are compared."""
MIN_RUN = 8
"""Tokens. A shared run this long, or a whole shorter item, makes a text and an item worth measuring: no published rule
reads a shorter n-gram (PaLM, Tulu 3 and open-r1 read 8-grams)."""
MIN_PASSAGE_RUN = 13
"""Tokens. The same for passages. They are public text and share short phrases with everything; 13-grams are the unit
of GPT-3's check. A run this long also makes a pair with a question strong."""

# Runs as found, int64 [n, 5]: a stretch of equal tokens in a row of text and a part of the index.
RUN_ROW, RUN_PART, RUN_TOKEN, RUN_INDEX_TOKEN, RUN_LENGTH = range(5)

# Aligned runs, int64 [n, 3]: what remains of the runs of one pair after alignment; row and part are the pair's.
ALIGNED_TOKEN, ALIGNED_INDEX_TOKEN, ALIGNED_LENGTH = range(3)

# Pairs, int64 [n, 6]: a row of text and a part of the index, with the range of its aligned runs and of its found runs.
PAIR_ROW, PAIR_PART, PAIR_ALIGNED_START, PAIR_ALIGNED_END, PAIR_RUN_START, PAIR_RUN_END = range(6)

# Spans, int64 [n, 2]: where a pair's match begins and ends, in tokens.
SPAN_START, SPAN_END = range(2)

SHARE_COLUMNS = ("cover", "body", "ask", "numbers", "bits", "exact", "swapped")
"""Columns of a pair's measures of type float32 [n, 7], in order; see `filters.contamination.scan.HITS`."""
COVER, BODY, ASK, NUMBERS, BITS, EXACT, SWAPPED = range(7)

COUNT_COLUMNS = (
    "tokens", "row_tokens", "longest", "common", "cover8", "cover11", "cover13", "cover20", "grams8", "span_tokens",
    "own_tokens",
)  # fmt: skip
"""Columns of a pair's measures of type int64 [n, 11], in order; see `filters.contamination.scan.HITS`."""
TOKENS, ROW_TOKENS, LONGEST, COMMON, COVER8, COVER11, COVER13, COVER20, GRAMS8, SPAN_TOKENS, OWN_TOKENS = range(11)

# Items of pairs, int64 [n, 2], and the context that supports each, float32 [n, 2]: bits, and whether it is enough.
OWNER_PAIR, OWNER_ITEM = range(2)
CONTEXT_BITS, CONTEXT_ENOUGH = range(2)

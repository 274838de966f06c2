"""Which evaluation items does a text hold, and what kind of find is each? Rules read the measures of `filters.contamination.scan`.

    test_leak       the rule finds the item of an evaluation split in the text
    train_split     the same for an item of the benchmark's own training split
    shared_passage  the passage (or the body of a long question), but not what is asked about it
    template        the wording with other numbers, operators, negations or words; a phrase
    paraphrase      nothing of the wording, but a meaning near by (`filters.contamination.paraphrase`, where asked for)

Our own rule, `ngram13`, says that a text holds an item when
- 90 % of the question's weight is there, of its last sentence 80 %, and every number, operator and negation of it;
- no word that tells much is replaced by another, and little is put between its words;
- a question of fewer than 13 tokens stands there whole, and either tells 30 bits and fills a sentence of its own, or is
  the instruction itself, or has its answer or half of its choices near by;
- a question that several items share is backed by the item's own choices, answer or passage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.coverage import coverage
from filters.contamination.index import QUESTION, Index
from filters.contamination.paraphrase import PARAPHRASE
from filters.contamination.scan import SHARED, WHOLE_BITS

CLASSES = ("test_leak", "train_split", "shared_passage", "template", PARAPHRASE)

LEAK_COVER, ASK_COVER = 0.9, 0.8
"""Shares of the weight of a question, and of its last sentence, that must be there."""
WHOLE_TOKENS = 13
"""A question this long identifies an item by itself; a shorter one must stand there whole."""
CONTEXT_BITS = 14.0
"""What a shorter question with its answer or choices near by must tell, theirs included."""
SWAPPED_BITS = 6.0
"""A word that tells this much, put in place of another, makes another question ("the domain" for "the range")."""
BODY_TOKENS = 40
"""A question this long has a body of its own, which may be public text."""
COMMON_ROWS = 10
"""GPT-3: a 13-gram in more training documents than this is common text."""

_U64 = npt.NDArray[np.uint64]
_I32 = npt.NDArray[np.int32]
_F32 = npt.NDArray[np.float32]
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


class Together(NamedTuple):
    """Contaminated by all texts of a corpus together: at least `share` of an item's tokens lie in n-grams of `length`
    that some text holds, or of its n-grams are such; any at all where the share is 0."""

    length: int
    share: float
    of: Literal["tokens", "grams"] = "tokens"


class Rule(NamedTuple):
    """A reading of the hits: what it counts as contaminated, where it is published, whether each hit is one by itself,
    and, where the paper takes the union over the corpus, which items are."""

    says: str
    source: str
    flags: Callable[[Measures], Flags]
    together: Together | None = None


def _ngram13(m: Measures) -> Flags:
    long = m.tokens >= WHOLE_TOKENS
    # An item with words put between its words is another, unless it is long and they are few (quote marks, a name).
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
        "90 % of the question's weight, with its numbers and last sentence; shorter than 13 tokens, the whole of it, "
        "telling enough or with its answer or choices near by",
        "Winnow",
        _ngram13,
    ),
    "gpt3": Rule(
        "a shared 13-gram that at most 10 training texts hold", "Brown et al. 2020, appendix C", lambda m: m.rare13
    ),
    "palm": Rule(
        "70 % of the item's 8-grams stand in the corpus",
        "Chowdhery et al. 2022, section 8",
        lambda m: (m.tokens >= 8) & (m.grams8 >= 0.7 * (m.tokens - 7)),
        Together(8, 0.7, "grams"),
    ),
    "llama2": Rule(
        "80 % of the item's tokens in matches of more than 10 tokens, of which four may differ after the tenth "
        "(`dirty`; over all texts together, matches without a difference)",
        "Touvron et al. 2023, section A.6",
        lambda m: _share(m.cover11, m.tokens) >= 0.8,
        Together(11, 0.8),
    ),
    "tulu3": Rule(
        "more than half of the item's tokens in 8-grams that one text shares",
        "Lambert et al. 2024, section 3.2",
        lambda m: _share(m.cover8, m.tokens) > 0.5,
    ),
    "qwen25": Rule(
        "a common subsequence of 13 tokens and of 60 % of the shorter text (looked for around shared runs)",
        "Qwen 2024, section 3",
        lambda m: (m.common >= 13) & (m.common >= 0.6 * np.minimum(m.tokens, m.row_tokens)),
    ),
    "open_r1": Rule(
        "any shared 8-gram", "open-r1, scripts/decontaminate.py", lambda m: m.longest >= 8, Together(8, 0.0)
    ),
    "hrm_text": Rule(
        "80 % of the item's tokens in 13-grams of the corpus (`dirty`)",
        "HRM-Text, section 4.2",
        lambda m: _share(m.cover13, m.tokens) >= 0.8,
        Together(13, 0.8),
    ),
    "hrm_text20": Rule(
        "80 % of the item's tokens in 20-grams of the corpus (`dirty`)",
        "HRM-Text, section 4.2",
        lambda m: _share(m.cover20, m.tokens) >= 0.8,
        Together(20, 0.8),
    ),
}
"""The rules by name, over one scan. A row is flagged by what it holds alone; an item where the paper takes the union
over the corpus, also by what all rows hold together (`together`). Tokens are ours, not the papers' tokenizers'. An
item is a question, or its passage; over all texts, both. Seeds that more than CAP items share stand for one of them,
so a row's hits name one of the items that a frame is common to; what is counted together is counted for each."""


def together(index: Index, grams: pa.Table) -> dict[str, Flags]:
    """By rule, the items [I] of an index that all texts of a corpus hold together. grams: COUNTS over the corpus."""
    held: dict[Together, Flags] = {}
    for rule in RULES.values():
        if rule.together is None:
            continue
        found = grams.filter(pc.equal(grams["length"], rule.together.length))["gram"].to_numpy()
        share = coverage(index, found, rule.together.length, rule.together.of)
        held[rule.together] = share >= rule.together.share if rule.together.share else share > 0
    return {name: held[rule.together] for name, rule in RULES.items() if rule.together is not None}


def judge(index: Index, hits: pa.Table, rule: str, common: _U64) -> pa.Table:
    """Give HITS their class under `rule` (a name in RULES): columns `class`, `score` and `rules`, those that flag them.

    common: sorted keys of the 13-grams that more than COMMON_ROWS texts of the corpus hold. Of the hits of one text
    that no rule but open_r1 flags, the best for each benchmark and class is kept.
    """
    measures = _measures(index, hits, common)
    flags = {name: one.flags(measures) for name, one in RULES.items()}
    item = hits["item"].to_numpy()
    body_only = (hits["body"].to_numpy() >= 0.8) & (measures.ask < ASK_COVER) & (measures.tokens >= BODY_TOKENS)
    passage = ~measures.question | (body_only & ~flags[rule])
    leak = measures.question & flags[rule]
    code = np.where(leak, index.arrays.trained[item], np.where(passage, 2, 3)).astype(np.int32)
    told = leak | np.any([flag for name, flag in flags.items() if name != "open_r1"], axis=0)

    row, bench = hits["row"].to_numpy(), index.arrays.bench[item]
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
    grams = hits["grams13"].combine_chunks()
    sizes = pc.list_value_length(grams).to_numpy(zero_copy_only=False)
    flat = grams.flatten().to_numpy(zero_copy_only=False)
    place = np.searchsorted(common, flat)
    rare = np.ones(len(flat), np.bool_)
    inside = place < len(common)
    rare[inside] = common[place[inside]] != flat[inside]
    rare13 = np.zeros(hits.num_rows, np.bool_)
    rare13[np.repeat(np.arange(hits.num_rows), sizes)[rare]] = True

    values: dict[str, Any] = {name: hits[name].to_numpy() for name in Measures._fields if name in hits.column_names}
    values |= {"question": hits["kind"].to_numpy() == QUESTION, "items": index.arrays.shared[item], "rare13": rare13}
    # Among few questions every word looks common: there the limit is half of what the rarest word tells.
    values["swapped"] = values["swapped"] * max(1.0, 2 * SWAPPED_BITS / float(index.arrays.weight.max()))
    return Measures(**values)

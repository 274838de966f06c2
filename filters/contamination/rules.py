"""Rules: which hits count as contamination, in the reading of each publication, and the class of each hit.

    test_leak       the rule finds an item of an evaluation split in the text
    near_leak       at least 80 % of the weight of such an item, but not all that the rule asks for
    train_split     as test_leak, for an item of the benchmark's own training split
    shared_passage  the passage (or the body of a long question) without what is asked about it
    template        the wording with other numbers, operators, negations or words; a phrase of it
    paraphrase      other wording with a similar meaning (`filters.contamination.paraphrase`, optional)

Winnow's own rule, `ngram13`, counts an item as contained in a text if all of these hold:
- 90 % of the question's weight is found, 80 % of its last sentence's, and every number, operator, single letter ("Find
  $a$"), unit and negation, and none of these is added (`f'(x)` for `f(x)`, 17! for 17);
- every word is found that fills a slot of a template ("Turn left" for "Turn right"), and no word of a question that has
  one is replaced by another;
- of the last sentence also every quantifier and name of a function, and no other one, or letter, is added;
- no heavy word is replaced by another, in the last sentence no word but the most common, and few words are put between;
- the formula at its ends does not go on in the text;
- a question under 13 tokens, those of a figure's code (`[asy]`) left out, is found whole, and either weighs 30 bits
  within a sentence of its own, or is the whole instruction, or has its answer or two thirds of its choices near it;
- a question that several items share is supported by the item's own choices, answer or passage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.contamination.context import MAX_SHARED_ITEMS
from filters.contamination.coverage import Coverage, Unit
from filters.contamination.index import QUESTION, BenchmarkIndex
from filters.contamination.paraphrase import PARAPHRASE
from filters.contamination.scan import MIN_WHOLE_BITS

CLASSES = ("test_leak", "near_leak", "train_split", "shared_passage", "template", PARAPHRASE)

LEAK_COVER, ASK_COVER = 0.9, 0.8
"""Shares of the weight of a question, and of its last sentence, that must be found. The rest allows for a changed word
of little weight."""
NEAR_COVER, NEAR_TOKENS = 0.8, 8
"""A near leak holds this share of the weight of a question of at least so many tokens."""
LONG_QUESTION_TOKENS = 13
"""A question this long identifies an item by itself, as a 13-gram does in GPT-3's check. A shorter one must be found
whole."""
MIN_SUPPORTED_BITS = 14.0
"""Bits that a shorter question and its context must weigh together: about one rare word."""
MAX_SWAPPED_BITS = 6.0
"""A replaced word of this weight, one in 64 questions or rarer, makes another question ("domain" for "range")."""
HEAVIEST_TO_SWAPPED_RATIO = 2.0
"""Among few questions every word looks common. Where the heaviest word weighs less than this many times
MAX_SWAPPED_BITS, the limit falls to the heaviest word's weight divided by this."""
SPAN_RATIO, SPAN_EXTRA_TOKENS = 1.25, 4
"""A long question's match may stretch over this many times its tokens, and a few more: quote marks, a name."""
BODY_TOKENS, BODY_COVER = 40, 0.8
"""A question this long has a body of its own, which may be public text: found to this share without its last sentence,
it is a shared passage."""
COMMON_ROWS = 10
"""A 13-gram in more training documents than this is common text (GPT-3, appendix C)."""

_U64 = npt.NDArray[np.uint64]
_I32 = npt.NDArray[np.int32]
_F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class HitMeasures(NamedTuple):
    """The columns of HITS that rules read, as arrays [hits].

    Two columns are added: items, how many items of one benchmark have the same question; rare13, whether the text
    shares a 13-gram that at most COMMON_ROWS texts of the corpus hold.
    """

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
    own_tokens: _I32
    bounded: Flags
    items: _I32
    rare13: Flags


class CorpusCriterion(NamedTuple):
    """When all texts of a corpus together contaminate an item.

    At least `share` (0 to 1) of the item's tokens lie in n-grams of `length` tokens that some text holds, or with unit
    "grams" of its n-grams are such. A share of 0 means any at all.
    """

    length: int
    share: float
    unit: Unit = "tokens"


class Rule(NamedTuple):
    """What a publication counts as contaminated.

    description, source: in words, and where it is published; flags: whether each hit counts by itself; corpus: the
    criterion over all texts, where the publication takes the union over the corpus.
    """

    description: str
    source: str
    flags: Callable[[HitMeasures], Flags]
    corpus: CorpusCriterion | None = None


def _ngram13(m: HitMeasures) -> Flags:
    long = m.own_tokens >= LONG_QUESTION_TOKENS
    # Words put between an item's words make another item, unless it is long and they are few.
    compact = np.where(long, m.span_tokens <= SPAN_RATIO * m.tokens + SPAN_EXTRA_TOKENS, m.longest >= m.own_tokens)
    contained = (
        m.question
        & (m.cover >= LEAK_COVER)
        & (m.ask >= ASK_COVER)
        & m.numbers
        & (m.swapped < MAX_SWAPPED_BITS)
        & compact
    )
    identified = (long | ((m.bits >= MIN_WHOLE_BITS) & m.bounded) | m.exact) & (m.items <= MAX_SHARED_ITEMS)
    supported = m.context & (long | (m.bits + m.context_bits >= MIN_SUPPORTED_BITS))
    return contained & (identified | supported)


def _share(part: _I32, tokens: _I32) -> npt.NDArray[np.float64]:
    return part / np.maximum(tokens, 1)


RULES: dict[str, Rule] = {
    "ngram13": Rule(
        "At least 90 % of the question's weighted tokens, all its numbers and its last sentence occur in one row. "
        "Questions under 13 tokens must match completely and be rare, or have their answer or choices near them.",
        "Winnow",
        _ngram13,
    ),
    "gpt3": Rule(
        "The row and the item share a 13-gram that at most 10 rows hold.",
        "Brown et al. 2020, appendix C",
        lambda m: m.rare13,
    ),
    "palm": Rule(
        "At least 70 % of the item's 8-grams occur in the corpus.",
        "Chowdhery et al. 2022, section 8",
        lambda m: (m.tokens >= 8) & (m.grams8 >= 0.7 * (m.tokens - 7)),
        CorpusCriterion(8, 0.7, "grams"),
    ),
    "llama2": Rule(
        "At least 80 % of the item's tokens lie in matches of more than 10 tokens, of which four may differ after the "
        "tenth (class `dirty` of the paper). Over all rows together, matches without differences.",
        "Touvron et al. 2023, section A.6",
        lambda m: _share(m.cover11, m.tokens) >= 0.8,
        CorpusCriterion(11, 0.8),
    ),
    "tulu3": Rule(
        "More than half of the item's tokens lie in 8-grams that one row shares.",
        "Lambert et al. 2024, section 3.2",
        lambda m: _share(m.cover8, m.tokens) > 0.5,
    ),
    "qwen25": Rule(
        "A common subsequence has at least 13 tokens and 60 % of the shorter text (searched around shared runs).",
        "Qwen 2024, section 3",
        lambda m: (m.common >= 13) & (m.common >= 0.6 * np.minimum(m.tokens, m.row_tokens)),
    ),
    "open_r1": Rule(
        "The row and the item share an 8-gram.",
        "open-r1, scripts/decontaminate.py",
        lambda m: m.longest >= 8,
        CorpusCriterion(8, 0.0),
    ),
    "hrm_text": Rule(
        "At least 80 % of the item's tokens lie in 13-grams of the corpus (class `dirty` of the paper).",
        "HRM-Text, section 4.2",
        lambda m: _share(m.cover13, m.tokens) >= 0.8,
        CorpusCriterion(13, 0.8),
    ),
    "hrm_text20": Rule(
        "At least 80 % of the item's tokens lie in 20-grams of the corpus (class `dirty` of the paper).",
        "HRM-Text, section 4.2",
        lambda m: _share(m.cover20, m.tokens) >= 0.8,
        CorpusCriterion(20, 0.8),
    ),
}
"""The rules by name. All of them read the same scan.

A row is flagged by what it holds alone. An item is also flagged by what all rows hold together, where the publication
takes that union (`corpus_flags`). Tokens are those of `dedup.shingles`, not of the papers' tokenizers. An item is a
question, or its passage; over all rows, both together. A seed that more than `seeds.CAP` parts share stands for one of
them, so a row's hits name one of the items that share a frame; the counts over all rows include each of them."""


def corpus_flags(coverage: Coverage) -> dict[str, Flags]:
    """By rule with a `corpus` criterion: which items [I] all texts of a corpus together hold."""
    flags: dict[str, Flags] = {}
    for name, rule in RULES.items():
        if rule.corpus is not None:
            length, share, unit = rule.corpus
            covered = coverage.shares(length, unit)
            flags[name] = covered >= share if share else covered > 0
    return flags


def classify_hits(index: BenchmarkIndex, hits: pa.Table, rule: str, common: _U64) -> pa.Table:
    """Append to HITS the columns `class` (by the rule named `rule`), `score` and `rules` (all that flag the hit).

    common: sorted keys of the 13-grams that more than COMMON_ROWS texts of the corpus hold. Hits that at most open_r1
    flags are reduced to the best of each text, benchmark and class.
    """
    measures = _measures(index, hits, common)
    flags = {name: definition.flags(measures) for name, definition in RULES.items()}
    item = hits["item"].to_numpy()
    long_body = (hits["body"].to_numpy() >= BODY_COVER) & (measures.tokens >= BODY_TOKENS)
    body_only = long_body & (measures.ask < ASK_COVER)
    passage = ~measures.question | (body_only & ~flags[rule])
    leak = measures.question & flags[rule]
    trained = index.arrays.trained[item].astype(np.bool_)
    near = (measures.cover >= NEAR_COVER) & (measures.tokens >= NEAR_TOKENS) & ~trained
    template = np.where(near, CLASSES.index("near_leak"), CLASSES.index("template"))
    code = np.where(
        leak,
        np.where(trained, CLASSES.index("train_split"), CLASSES.index("test_leak")),
        np.where(passage, CLASSES.index("shared_passage"), template),
    ).astype(np.int32)
    flagged = leak | np.any([flag for name, flag in flags.items() if name != "open_r1"], axis=0)

    # The first of each text, benchmark, class and `flagged` in this order is the best one.
    row, bench = hits["row"].to_numpy(), index.arrays.bench[item]
    order = np.lexsort((item, -measures.longest, -measures.cover, flagged, code, bench, row))
    ordered = np.stack([row[order], bench[order], code[order], flagged[order]])
    best = np.ones(len(order), np.bool_)
    best[1:] = np.any(ordered[:, 1:] != ordered[:, :-1], axis=0)
    keep = np.zeros(len(order), np.bool_)
    keep[order] = best | flagged[order]
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


def _measures(index: BenchmarkIndex, hits: pa.Table, common: _U64) -> HitMeasures:
    hits = hits.combine_chunks()
    item = hits["item"].to_numpy()
    grams = as_array(hits["grams13"])
    sizes = pc.list_value_length(grams).to_numpy(zero_copy_only=False)
    flat = grams.flatten().to_numpy(zero_copy_only=False)
    place = np.searchsorted(common, flat)
    rare = np.ones(len(flat), np.bool_)
    inside = place < len(common)
    rare[inside] = common[place[inside]] != flat[inside]
    rare13 = np.zeros(hits.num_rows, np.bool_)
    rare13[np.repeat(np.arange(hits.num_rows), sizes)[rare]] = True

    values: dict[str, Any] = {name: hits[name].to_numpy() for name in HitMeasures._fields if name in hits.column_names}
    values |= {"question": hits["kind"].to_numpy() == QUESTION, "items": index.arrays.shared[item], "rare13": rare13}
    heaviest = float(index.arrays.weight.max())
    values["swapped"] = values["swapped"] * max(1.0, HEAVIEST_TO_SWAPPED_RATIO * MAX_SWAPPED_BITS / heaviest)
    return HitMeasures(**values)

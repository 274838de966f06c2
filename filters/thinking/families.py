"""The table of tags that models put around their reasoning and their answers.

To support another model's tags, add a family to FAMILIES, or name it in a recipe (`families` of both stages).

A tag is recognised in any case, with `_` and `-` ignored, with zero-width characters inside, in full-width characters,
and, for `<...>`, with blanks (`< / think >`), attributes (`<think time="3">`) and escaped brackets (`&lt;think&gt;`,
`\\u003cthink\\u003e`, `\\<think\\>`).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.hashing import fnv1a_bytes
from dedup.kernel import kernel


class Family(NamedTuple):
    """Tags that belong together: any closer of a family ends what any of its openers began.

    wraps: what stands between them. Reasoning is cut out with its tags; an answer loses its tags only.
    """

    name: str
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    wraps: Literal["thinking", "answer"] = "thinking"


def _elements(*names: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(f"<{name}>" for name in names), tuple(f"</{name}>" for name in names)


def _variants() -> tuple[str, ...]:
    """Names that prompts make of the same words: `deep_think`, `inner_thoughts`, `step_by_step_reasoning` ..."""
    words = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "analysis", "cot", "monologue")
    before = "deep inner internal my silent hidden private self initial extended long slow fast quick step step_by_step"
    after = ("process", "steps", "step", "trace", "content", "block", "section", "phase", "chain")
    plain = {f"{word}_{end}" for word, end in product(words, after)}
    compound = {f"{first}_{word}" for first, word in product((*before.split(), "chain_of"), words)}
    return tuple(sorted((plain | compound) - {"reasoning_content", "inner_monologue"}))  # families of their own


def _controls() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Control marks around the same words: `<|begin_of_thought|>`, `<|start_think|>`, `<|reasoning_start|>` ..."""
    words = ("think", "thinking", "thought", "thoughts", "reasoning")
    opens = {f"<|{first}_{word}|>" for first, word in product(("begin", "begin_of", "start", "start_of"), words)}
    closes = {f"<|{last}_{word}|>" for last, word in product(("end", "end_of"), words)}
    opens |= {f"<|{word}_{first}|>" for first, word in product(("begin", "start"), words)}
    closes |= {f"<|{word}_end|>" for word in words}
    return tuple(sorted(opens - {"<|start_thinking|>"})), tuple(sorted(closes - {"<|end_thinking|>"}))  # of Command


def _notation(name: str) -> Family:
    """A family of `filters.thinking.notations`, whose tags no model writes."""
    return Family(name, (f"<|winnow:{name}|>",), (f"<|/winnow:{name}|>",))


NOTATIONS = ("phrase", "heading", "word", "details", "comment", "json")
"""Families of reasoning that is marked by other means than tags. `notations` writes them as tags."""
CUT_SHORT = ("heading", "word")
"""Those of NOTATIONS whose block, if nothing closes it, may hold the answer as well."""

FAMILIES = (
    Family(
        "think",
        ("<think>", "<thinking>", "<|think|>", "<|thinking|>", "|startthink|", "<thinkfast>", "<longcat_think>"),
        ("</think>", "</thinking>", "<|/think|>", "<|/thinking|>", "|endthink|", "</thinkfast>", "</longcat_think>"),
    ),
    Family("thought", *_elements("thought", "thoughts")),  # Marco-o1, EXAONE
    Family("reasoning", *_elements("reasoning", "reason")),
    Family("reflection", *_elements("reflection")),
    Family("scratchpad", *_elements("scratchpad")),
    Family("analysis", *_elements("analysis")),
    Family("cot", *_elements("cot")),
    Family("rationale", *_elements("rationale")),
    Family("planning", *_elements("planning")),
    Family("monologue", *_elements("inner_monologue", "monologue", "ant_thinking")),
    Family("variant", *_elements(*_variants())),
    # Written by `pipelines.formats.pairs` around reasoning that a source has in a column of its own.
    Family("column", ("<reasoning_content>",), ("</reasoning_content>",)),
    Family("seed", ("<seed:think>",), ("</seed:think>",)),
    Family("mm", ("<mm:think>",), ("</mm:think>",)),
    Family("begin_of_thought", *_controls()),  # Sky-T1, OpenThoughts
    Family("apertus", ("<|inner_prefix|>",), ("<|inner_suffix|>",)),
    Family("kimi", ("◁think▷",), ("◁/think▷",)),
    Family("mistral", ("[think]",), ("[/think]",)),
    Family("command", ("<|start_thinking|>",), ("<|end_thinking|>",)),
    Family("gemma", ("<|channel>thought", "<|channel>analysis", "<|channel>"), ("<channel|>",)),
    Family("medgemma", ("<unused94>thought", "<unused94>"), ("<unused95>",)),
    Family("gemini", ("<ctrl94>thought", "<ctrl94>"), ("<ctrl95>",)),
    # Families without an opener of their own. Solar Open: `<|think|>` ... `<|end|><|begin|>assistant<|content|>`.
    Family("solar", (), ("<|content|>",)),
    Family("apriel", (), ("[begin final response]",)),
    Family("s1", ("<|im_start|>think",), ("<|im_start|>answer",)),
    # gpt-oss: a message in one of these channels ends at any tag of the format.
    Family("harmony", ("<|channel|>analysis", "<|channel|>commentary"), ("<|end|>", "<|call|>")),
    *(_notation(name) for name in NOTATIONS),
    Family("answer", *_elements("answer", "final_answer", "final_response"), "answer"),
    Family("output", *_elements("output", "response", "solution"), "answer"),
    Family("solution", ("<|begin_of_solution|>",), ("<|end_of_solution|>",), "answer"),
    Family(
        "response",
        ("<|start_response|>", "<|start_text|>", "<|begin_of_answer|>"),
        ("<|end_response|>", "<|end_text|>", "<|end_of_answer|>"),
        "answer",
    ),
    Family("box", ("<|begin_of_box|>",), ("<|end_of_box|>",), "answer"),  # GLM
    Family("final_channel", ("<|channel|>final",), ("<|return|>",), "answer"),
    Family("start", ("<|start|>",), (), "answer"),  # harmony's start of a turn, which has no content of its own
    # Ends of a turn, which are cut where nothing follows them, or nothing but thinking stands before them.
    Family(
        "turn",
        (),
        (
            *("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<eos>"),
            *("<|end_of_turn|>", "<|eom_id|>", "<|end_of_turn_token|>", "<｜end▁of▁sentence｜>", "[|endofturn|]"),
            *("<|eot|>", "<|eos|>", "<|endofturn|>", "<|turn_end|>", "<|assistant_end|>", "<|role_end|>", "<|flush|>"),
            *("<seed:eos>", "<end_of_sentence>", "[e~[", "[end final response]"),
        ),
        "answer",
    ),
    Family("sentence", ("<s>",), ("</s>",), "answer"),  # Llama 2, Mistral; of HTML, text that is struck out
    # Beginnings of a turn, which are cut where nothing but thinking stands before them.
    Family(
        "header",
        (
            *("<|im_start|>assistant", "<start_of_turn>model", "<|start_header_id|>assistant", "<|turn>model"),
            *("<|start_of_role|>assistant", "<|assistant|>", "[|assistant|]", "<|chatbot_token|>"),
            *("<|start_of_turn_token|>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>"),
            *("<|assistant_start|>", "<|role_start|>assistant", "<role>assistant</role>", "<seed:bos>assistant"),
        ),
        (),
        "answer",
    ),
)

_NUMBER = {family.name: number for number, family in enumerate(FAMILIES)}
HARMONY, FINAL, START = _NUMBER["harmony"], _NUMBER["final_channel"], _NUMBER["start"]
ANSWER, SOLUTION, RESPONSE, BOX, TURN = (_NUMBER[name] for name in ("answer", "solution", "response", "box", "turn"))
SENTENCE, HEADER = _NUMBER["sentence"], _NUMBER["header"]
"""Families that are read in ways of their own, by their place in FAMILIES."""

HEADS = (
    *("<|channel|>", "<|channel>", "<|im_start|>", "<start_of_turn>", "<|start_header_id|>", "<|start_of_role|>"),
    *("<|turn>", "<unused94>", "<ctrl94>", "<|role_start|>", "<seed:bos>"),
)
"""Control marks that a name follows (of a channel, of a role), which belongs to the tag."""
HEAD_ENDS = (b"|message|", b"|end_header_id|", b"|end_of_role|", b"|im_sep|", b"|role_end|")
"""What ends a header behind the name, without its brackets."""

TABLE_SLOTS = 2048
"""Slots of a hash table of words or tags: a power of two, several times their number."""


def hash_table(entries: dict[bytes, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """An open-addressing table for `look_up`: FNV-1a hashes uint64 and values int64 [TABLE_SLOTS], -1 = free."""
    keys, values = np.zeros(TABLE_SLOTS, np.uint64), np.full(TABLE_SLOTS, -1, np.int64)
    for text, value in entries.items():
        key = fnv1a_bytes(text)
        slot = key & (TABLE_SLOTS - 1)
        while values[slot] >= 0:
            assert keys[slot] != key, text
            slot = (slot + 1) & (TABLE_SLOTS - 1)
        keys[slot], values[slot] = key, value
    return keys, values


_SLOT_MASK = np.uint64(TABLE_SLOTS - 1)


@kernel
def look_up(keys, values, key):  # type: ignore[no-untyped-def]
    """The value of a hash in a `hash_table`; -1 where it is not there."""
    slot = np.int64(key & _SLOT_MASK)
    while values[slot] >= 0:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + 1) & (TABLE_SLOTS - 1)
    return -1


class Lexicon(NamedTuple):
    """Families as the kernels read them.

    families: FAMILIES and those of the recipe, in this order. keys uint64, values int64: the hash table of their tags,
    a value being twice the family's number, plus 1 for a closer. begins: bool [256], the bytes with which a mark may
    begin. literals uint8, literal_ends int64, literal_values int64: the tags that are in none of the forms which the
    hash table reads. is_answer: bool [families].
    """

    families: tuple[Family, ...]
    keys: npt.NDArray[np.uint64]
    values: npt.NDArray[np.int64]
    begins: npt.NDArray[np.bool_]
    literals: npt.NDArray[np.uint8]
    literal_ends: npt.NDArray[np.int64]
    literal_values: npt.NDArray[np.int64]
    is_answer: npt.NDArray[np.bool_]


_BRACKETED = re.compile(
    rf"<[^<>\s]+>|\[[^\[\]\s]+\]|\|[^|\s]+\||◁[^◁▷\s]+▷|(?:{'|'.join(map(re.escape, HEADS))})[a-z]*"
)
BEGINS = b"<[|`~&\xe2\xef"
"""The bytes with which the tags of FAMILIES and code can begin."""
MAX_TAG_BYTES = 48
"""Longest tag that the table holds, without attributes."""


def folded(tag: str) -> bytes:
    """A tag without the differences that are ignored: case, width, `_` and `-`."""
    return unicodedata.normalize("NFKC", tag).lower().replace("_", "").replace("-", "").encode()


_FOLDED_HEADS = tuple(map(folded, HEADS))


def _stem(tag: str) -> bytes:
    """What is hashed of a tag: all but its closing bracket, before which attributes may stand; a head with its name."""
    name = folded(tag)
    if name.startswith(_FOLDED_HEADS):
        return name
    return name.removesuffix("▷".encode()) if name.endswith("▷".encode()) else name[:-1]


@functools.lru_cache(maxsize=32)
def lexicon(added: tuple[Family, ...] = ()) -> Lexicon:
    """FAMILIES and the families of a recipe.

    Raises: ValueError: if a tag of `added` is a tag of another family, or is empty or too long.
    """
    families = (*FAMILIES, *added)
    table: dict[bytes, int] = {}
    literals: dict[bytes, int] = {}
    begins = np.isin(np.arange(256), list(BEGINS))
    for number, family in enumerate(families):
        for closes, tags in enumerate((family.opens, family.closes)):
            for tag in tags:
                size, value = len(tag.encode()), 2 * number + closes
                if not tag.strip() or size >= MAX_TAG_BYTES:
                    raise ValueError(f"family {family.name}: a tag has 1 to {MAX_TAG_BYTES - 1} bytes: {tag!r}")
                bracketed = bool(_BRACKETED.fullmatch(tag.lower()))
                place, name = (table, _stem(tag)) if bracketed else (literals, tag.encode().lower())
                if place.get(name, value) != value:
                    raise ValueError(
                        f"family {family.name}: {tag!r} is a tag of another family or both opens and closes"
                    )
                place[name] = value
    joined = b"".join(literals)
    for text in literals:
        begins[[text[0], bytes([text[0]]).upper()[0]]] = True
    return Lexicon(
        families,
        *hash_table(table),
        begins,
        np.frombuffer(joined, np.uint8),
        np.cumsum([len(text) for text in literals], dtype=np.int64),
        np.array(list(literals.values()), np.int64),
        np.array([family.wraps == "answer" for family in families]),
    )

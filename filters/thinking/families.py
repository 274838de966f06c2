"""The table of tags that models put around their reasoning and their answers.

To support another model's tags, add a family to FAMILIES. Tags are matched in any case and, for `<...>`, with
attributes (`<think time="3">`).
"""

from __future__ import annotations

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


FAMILIES = (
    Family(
        "think",
        ("<think>", "<thinking>", "<|think|>", "<|thinking|>", "|startthink|"),
        ("</think>", "</thinking>", "<|/think|>", "<|/thinking|>", "|endthink|"),
    ),
    Family("thought", ("<thought>", "<thoughts>"), ("</thought>", "</thoughts>")),  # Marco-o1
    Family("reasoning", ("<reasoning>",), ("</reasoning>",)),
    Family("reflection", ("<reflection>",), ("</reflection>",)),
    Family("scratchpad", ("<scratchpad>",), ("</scratchpad>",)),
    Family(
        "monologue",
        ("<inner_monologue>", "<thought_process>", "<chain_of_thought>", "<ant_thinking>", "<antthinking>"),
        ("</inner_monologue>", "</thought_process>", "</chain_of_thought>", "</ant_thinking>", "</antthinking>"),
    ),
    # Written by `pipelines.formats.pairs` around reasoning that a source has in a column of its own.
    Family("column", ("<reasoning_content>",), ("</reasoning_content>",)),
    Family("seed", ("<seed:think>",), ("</seed:think>",)),
    Family("mm", ("<mm:think>",), ("</mm:think>",)),
    Family("begin_of_thought", ("<|begin_of_thought|>",), ("<|end_of_thought|>",)),  # Sky-T1, OpenThoughts
    Family("kimi", ("◁think▷",), ("◁/think▷",)),
    Family("mistral", ("[think]",), ("[/think]",)),
    Family("command", ("<|start_thinking|>",), ("<|end_thinking|>",)),
    # gpt-oss: a message in one of these channels ends at any tag of the format.
    Family("harmony", ("<|channel|>analysis", "<|channel|>commentary"), ("<|end|>", "<|call|>")),
    Family("answer", ("<answer>", "<final_answer>"), ("</answer>", "</final_answer>"), "answer"),
    Family("output", ("<output>",), ("</output>",), "answer"),
    Family("solution", ("<|begin_of_solution|>",), ("<|end_of_solution|>",), "answer"),
    Family("response", ("<|start_response|>",), ("<|end_response|>",), "answer"),
    Family("final_channel", ("<|channel|>final",), ("<|return|>",), "answer"),
    Family("start", ("<|start|>",), (), "answer"),  # harmony's start of a turn, which has no content of its own
)

_NUMBER = {family.name: number for number, family in enumerate(FAMILIES)}
HARMONY, FINAL, START = _NUMBER["harmony"], _NUMBER["final_channel"], _NUMBER["start"]
SOLUTION, RESPONSE = _NUMBER["solution"], _NUMBER["response"]
"""Families that are read in ways of their own, by their place in FAMILIES."""
IS_ANSWER = np.array([family.wraps == "answer" for family in FAMILIES])
"""Which families wrap answers, bool [families]."""

CHANNEL, MESSAGE = b"<|channel|>", b"<|message|>"
"""Harmony: the beginning of a channel's tag, which its name follows, and the end of a message's header."""

TABLE_SLOTS = 512
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


def _stem(tag: str) -> bytes:
    """What is hashed of a tag: all but its closing bracket, before which attributes may stand."""
    return tag.encode() if tag.encode().startswith(CHANNEL) else tag[:-1].encode()


TAG_KEYS, TAG_VALUES = hash_table(
    {
        _stem(tag): 2 * number + closes
        for number, family in enumerate(FAMILIES)
        for closes, tags in enumerate((family.opens, family.closes))
        for tag in tags
    }
)
"""The tags by the hash of their stem in lower case. A value is twice the family's number, plus 1 for a closer."""

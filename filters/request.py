"""What does the instruction ask for? Filters of responses keep what was asked for: links, refrains, a repeated word.

Each filter has a pattern of its own for its subject and tries it only on the rows that it would drop otherwise. It
reads the sentences that ask, not the passage that they are about, in which any word may stand.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.text import On

VERSE = (
    r"(?i)\b(?:songs?|sing|singing|lyrics?|refrains?|chorus(?:es)?|ballads?|anthems?|hymns?|lullab(?:y|ies)|carols?|"
    r"chants?|mantras?|rap|jingles?|poems?|poetry|verses?|villanelle|pantoum|ghazal|litany|prayer|nursery|sonnet|"
    r"Lied(?:er|es)?|Gedicht|chanson|poème|canción|poema|стих\w*|песн\w*)\b|诗|歌|詩"
)
"""Songs and poems repeat lines."""


_SENTENCES = re.compile(r"(?<=[.!?。！？])[\"'”’»)]*\s+|(?<=[。！？])|\s*\n+\s*")
_ASKS = re.compile(
    r"[?？]|(?:\A\W*|[,;:]\W+)(?:(?:please|and|can you|could you|would you|now|then|question|q|task|instructions?|"
    r"prompt)\b\W*)*"
    r"(?:write|describe|explain|tell|give|list|name|summari[sz]e|translate|compare|classify|create|generate|compose|"
    r"draft|"
    r"design|implement|develop|build|make|find|solve|compute|calculate|evaluate|determine|show|prove|identify|define|"
    r"discuss|analy[sz]e|suggest|provide|answer|choose|select|convert|change|turn|replace|extract|continue|complete|"
    r"finish|fill|print|draw|repeat|say|sing|role[- ]?play|speak|behave|type|output|imagine|act|pretend|rewrite|"
    r"paraphrase|decline|refuse|reply|"
    r"respond|mask|quote|copy|correct|cite|start|add|put|return|format|use|invite|introduce|rate|simulate|predict)\b|"
    r"\b(?:please|bitte|your task|you (?:should|must|have to|need to|will)|i (?:want|need) you)\b|___",
    re.IGNORECASE,
)
MAX_STATEMENT_CHARS = 200
"""An instruction of which no sentence asks is read whole up to this length, else its first and its last sentence."""


def what_is_asked(instructions: pa.StringArray, whole_chars: int = 0) -> pa.StringArray:
    """The sentences of the instructions [rows] that ask: questions and imperatives. Few rows.

    whole_chars: instructions up to this length are read whole.
    """
    return pa.array([_asked(instruction, whole_chars) for instruction in instructions.to_pylist()], pa.string())


def _asked(instruction: str, whole_chars: int) -> str:
    if len(instruction) <= whole_chars:
        return instruction
    sentences = [sentence for sentence in _SENTENCES.split(instruction) if sentence]
    asking = [sentence for sentence in sentences if _ASKS.search(sentence)]
    if not asking and len(instruction) > MAX_STATEMENT_CHARS:
        asking = [sentences[0], sentences[-1]]
    return "\n".join(asking) or instruction


def keep_asked_for(
    failed: npt.NDArray[np.bool_], records: pa.Table, pattern: str, on: On = "response", given: bool = False
) -> npt.NDArray[np.bool_]:
    """`failed` [rows] without the rows whose instruction asks for what matches `pattern` (RE2).

    given: the whole instruction is read, with the text that it gives. on: the text that was judged. Where the
    instruction is a part of it, it excuses nothing.
    """
    if on != "response":
        return failed
    rows = np.flatnonzero(failed)
    if not len(rows):
        return failed
    instructions = as_array(records["instruction"]).take(pa.array(rows))
    asks = instructions if given else what_is_asked(instructions)
    asked = np.asarray(pc.match_substring_regex(asks, pattern))
    result = failed.copy()
    result[rows] = ~asked
    return result

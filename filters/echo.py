"""Echo: responses that repeat the instruction, with or without something after it.

Texts are compared without case (ASCII) and without white space. Short instructions are not judged: the answer to "Yes
or no" may well be "Yes or no".

Only a request can be echoed: an instruction that asks a question, addresses somebody or begins with an imperative. The
response to a statement, to the beginning of a story or to half a program may repeat or continue it. So may the response
to a request for a copy, a correction or a continuation.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from filters.request import keep_asked_for
from filters.stage import Count, Filter
from filters.text import is_space
from filters.verdict import Check, first_failure

REQUEST = (
    r"(?i)[?？]|\b(?:please|you|your|yourself)\b|请|：\s*\z|\b(?:bitte|s'il (?:vous|te) plaît|por favor|"
    r"пожалуйста)\b|"
    r"(?:\A|[\n.!:]\s*)\W*(?:write|describe|explain|tell|give|list|name|summari[sz]e|translate|compare|"
    r"classify|create|"
    r"generate|compose|draft|design|implement|develop|build|make|find|solve|compute|calculate|evaluate|"
    r"determine|show|"
    r"prove|identify|state|define|discuss|analy[sz]e|suggest|share|recommend|provide|answer|choose|select|pick|"
    r"rank|sort|order|"
    r"convert|change|turn|replace|remove|add|insert|extract|count|categori[sz]e|introduce|outline|propose|"
    r"predict|imagine|"
    r"consider|use|read|given|rewrite|paraphrase|simplify|shorten|expand|edit|plan|help|teach|think|say|what|"
    r"which|who|whom|"
    r"whose|when|where|why|how|is|are|was|were|do|does|did|can|could|would|should|will|has|have|may|"
    r"schreibe?|erkläre?|beschreibe?|nenne?|übersetze?|erzähle?|écris|écrivez|explique[zr]?|décris|décrivez|"
    r"donne[zr]?|"
    r"tradui[st]e?z?|escribe|explica|describe|traduce|enumera|напиши|объясни|опиши|переведи|назови)\b|"
    r"(?:写|解释|描述|翻译|列出)"
)
"""Instructions that ask for something."""
STATEMENT = r"\A\s*(?:SELECT|INSERT|CREATE|UPDATE|DELETE|WITH|IF|FOR|DO)\b"
"""Imperatives of programming languages."""
ASKED = (
    r"(?i)\b(?:repeat|copy|copies|echo|verbatim|word for word|unchanged|without (?:any )?changes?|as it is|"
    r"exactly (?:as|the|this|like)|recite|quote|"
    r"say after|return the (?:input|text|sentence)|correct|proofread|fix|spelling|grammar|grammatical\w*|"
    r"typos?|mistakes?|"
    r"punctuat\w*|capitali[sz]\w*|as little as possible|if (?:needed|necessary)|continue|complete|completion|"
    r"finish|go on|"
    r"extend|restate|fill in the (?:blanks?|gaps?))\b|wiederhol|korrigier|répète|corrige|repite|повтори|"
    r"исправь|重复|改正"
)
"""Copies, corrections and continuations that the instruction asks for."""


class Echo(Filter):
    """Drop responses that begin with the whole instruction.

    min_instruction_bytes: shorter instructions, counted without white space, are not judged.
    """

    VERSION: ClassVar = 2
    RENAMED_KEYS: ClassVar = {"min_chars": "min_instruction_bytes"}

    kind: Literal["echo"] = "echo"
    min_instruction_bytes: Count = 24

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `echo` (the response is the instruction), `echo_first` (it begins with the instruction). The value
        is the share of the response that is echo, 0 to 1.
        """
        shared, instruction, response = measure(as_array(records["instruction"]), as_array(records["response"]))
        repeated = (shared == instruction) & (instruction >= self.min_instruction_bytes)
        rows = np.flatnonzero(repeated)  # few
        taken = as_array(records["instruction"]).take(pa.array(rows))
        request, statement = (
            np.asarray(pc.match_substring_regex(taken, pattern), np.bool_) for pattern in (REQUEST, STATEMENT)
        )
        repeated[rows] = request & ~statement
        repeated = keep_asked_for(repeated, records, ASKED)
        ratio = shared / np.maximum(response, 1)
        return first_failure(
            [Check("echo", repeated & (shared == response), ratio, 1), Check("echo_first", repeated, ratio, 0)]
        )


def measure(instructions: pa.StringArray, responses: pa.StringArray) -> npt.NDArray[np.int64]:
    """Bytes without white space, int64 [3, rows]: of the common beginning, of the instruction, of the response.

    Where the response does not begin with the whole instruction, the instruction counts as one byte longer than the
    common beginning, and the response as long as that: nothing more is needed to know that it is no echo.
    """
    return np.ascontiguousarray(_measure(*buffers(instructions), *buffers(responses)).T)


@kernel
def _fold(byte: int) -> int:
    return byte | 32 if 65 <= byte <= 90 else byte


@kernel
def _measure(  # type: ignore[no-untyped-def]
    instruction, instruction_offsets, response, response_offsets
):
    rows = len(instruction_offsets) - 1
    result = np.zeros((rows, 3), np.int64)
    for row in range(rows):
        i, end_i = instruction_offsets[row], instruction_offsets[row + 1]
        r, end_r = response_offsets[row], response_offsets[row + 1]
        alike = 0
        # Both texts side by side, white space skipped on either side, to the first byte that differs.
        while True:
            while i < end_i and is_space(instruction[i]):
                i += 1
            while r < end_r and is_space(response[r]):
                r += 1
            if i == end_i or r == end_r or _fold(instruction[i]) != _fold(response[r]):
                break
            i, r, alike = i + 1, r + 1, alike + 1
        more_i, more_r = 0, 0
        if i < end_i:
            more_i = 1  # no echo: how much is left of either text does not matter
        else:
            while r < end_r:
                more_r += not is_space(response[r])
                r += 1
        result[row] = (alike, alike + more_i, alike + more_r)
    return result

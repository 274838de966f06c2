"""Refusal: answers that decline to answer, and answers about being a language model.

A refusal is an opening. It is looked for in the first `prefix_chars` characters, and must name what is declined ("I
cannot assist with ..."), so that dialogue ("Sorry, I can't come tonight") is kept.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, text
from filters.verdict import Check, first_failure

_CANNOT = (
    r"(?:can ?not|can['’]?t|could ?not|couldn['’]?t|won['’]?t|will not|"
    r"(?:am|['’]m|are|['’]re|is) (?:not able to|unable to|not allowed to|not comfortable)|"
    r"do(?: not|n['’]?t) (?:feel comfortable|have the ability to|have access to))"
)
_DO = (
    r"(?:help|assist|provide|comply|fulfill?|answer|respond|create|generate|produce|discuss|engage|support|complete|"
    r"participate|offer|continue|satisfy|share|advise|recommend|process|perform|access|browse|do that|write|"
    r"creating|generating|providing|helping|assisting|discussing)\b"
)
_SORRY = (
    r"(?:oh|okay|well|unfortunately|however|apologies|sorry|(?:i['’]m|i am|we['’]re|we are) (?:\w+ )?(?:sorry|afraid)|"
    r"i apologi[sz]e|my apologies|as an ai\b[^.]{0,60}|as a (?:large )?language model)"
)
REFUSAL = (
    rf"(?i)\A\W*(?:{_SORRY}\b[^\w\n]{{1,3}}(?:but |that |for [^.\n]{{0,60}}[.,] ?)?)*"
    rf"(?:i|we)\b ?{_CANNOT} ?(?:\w+ )?(?:\w+ )?{_DO}"
)
DISCLAIMER = (
    r"(?i)\b(?:as an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant| system|,)|"
    r"as a (?:large )?language model\b|i['’]?(?: a)?m (?:just |only )?an? (?:ai|large) language model)"
)


class Refusal(Filter):
    """Drop refusals and disclaimers.

    prefix_chars: characters of the text's beginning that are read. The default is two or three sentences.
    """

    kind: Literal["refusal"] = "refusal"
    on: On = "response"
    prefix_chars: int = 240

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `refusal`, `ai_disclaimer`. The value is 1: it is there."""
        prefixes = pc.utf8_slice_codeunits(text(records, self.on), 0, self.prefix_chars)
        refusal, disclaimer = (
            np.asarray(pc.match_substring_regex(prefixes, pattern)) for pattern in (REFUSAL, DISCLAIMER)
        )
        return first_failure([Check("refusal", refusal, refusal, 1), Check("ai_disclaimer", disclaimer, disclaimer, 1)])

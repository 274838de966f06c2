"""What of C4's cleaning makes sense for instruction data: web boilerplate.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2.2.

Kept: pages with "lorem ipsum" (unless the instruction gave it, as it does to programs that count words); and, as whole
records since a filter rewrites nothing, what C4 removes as lines: notices about JavaScript and about cookies or terms.
C4 goes by the words alone ("javascript", "privacy policy"), which are also what questions are about, so here it must be
a notice: words that address the visitor of a site.

Off by default: `curly_bracket` (C4 takes it for code that leaked into prose; answers hold code and LaTeX).

Left out: the terminal punctuation of every line, three words a line and five sentences a page (wrong for short answers,
lists, formulas and code); the list of bad words (removes dialects and medicine; Dodge et al. 2021); repeated spans of
three sentences (`dedup` finds duplicates); language (`language` does that).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, holding, text
from filters.verdict import Check, first_failure

LOREM_IPSUM = r"(?i)lorem ipsum"
JAVASCRIPT_NOTICE = (
    r"(?i)(?:please (?:enable|turn on|activate) javascript|"
    r"javascript (?:is|must be|needs to be) (?:disabled|enabled|turned off|turned on)|"
    r"requires javascript to (?:be enabled|work)|your browser does not support javascript|enable javascript (?:in|to))"
)
POLICY_NOTICE = (
    r"(?i)(?:(?:we|this (?:web)?site|our (?:web)?site) uses? cookies|accept (?:all |our )?cookies|enable cookies|"
    r"you (?:agree|consent) to (?:our|the) use of cookies|"
    r"by (?:using|continuing to (?:use|browse)) (?:this|our|the) (?:web)?site,? you (?:agree|consent|accept))"
)


class C4(Filter):
    """Drop web boilerplate."""

    kind: Literal["c4"] = "c4"
    on: On = "response"
    lorem_ipsum: bool = True
    javascript_notice: bool = True
    policy_notice: bool = True
    curly_bracket: bool = False

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `lorem_ipsum`, `javascript_notice`, `policy_notice`, `curly_bracket`. The value is 1 (it is
        there).
        """
        texts = text(records, self.on)
        lorem = _found("lorem_ipsum", texts, "orem", LOREM_IPSUM, self.lorem_ipsum)
        if self.on == "response" and lorem.failed.any():
            given = _found("lorem_ipsum", text(records, "instruction"), "orem", LOREM_IPSUM, True)
            lorem = lorem._replace(failed=lorem.failed & ~given.failed)
        checks = [
            lorem,
            _found("javascript_notice", texts, "cript", JAVASCRIPT_NOTICE, self.javascript_notice),
            _found("policy_notice", texts, "site", POLICY_NOTICE, self.policy_notice),
            _found("policy_notice", texts, "cookies", POLICY_NOTICE, self.policy_notice),
            _found("curly_bracket", texts, "{", r"\{", self.curly_bracket),
        ]
        return first_failure(checks)


def _found(reason: str, texts: pa.StringArray, hint: str, pattern: str, wanted: bool) -> Check:
    """Where `pattern` matches, looked for only in texts that hold `hint`: a literal is found many times faster."""
    found: npt.NDArray[np.bool_] = np.zeros(len(texts), np.bool_)
    if wanted:
        hinted = holding(texts, hint)
        found[hinted] = np.asarray(pc.match_substring_regex(texts.take(pa.array(hinted)), pattern), np.bool_)
    return Check(reason, found, found, 1)

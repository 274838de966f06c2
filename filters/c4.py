"""C4: web boilerplate, by the rules of C4's cleaning that make sense for instruction data.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2.2.

Kept: pages with "lorem ipsum", and notices about JavaScript and about cookies or terms. C4 removes the lines of such
notices; a filter rewrites nothing, so here the record is dropped. C4 goes by words alone ("javascript", "privacy
policy"), which questions are also about. Here it must be a notice: words that address the visitor of a site. A notice
or a filler text that the instruction asks for ("Write a cookie banner", "a page with placeholder text") is an answer.

Off by default: `curly_bracket`. C4 takes it for code that leaked into prose; answers contain code and LaTeX.

Left out: the terminal punctuation of every line, three words a line and five sentences a page (wrong for short answers,
lists, formulas and code); the list of bad words (it removes dialects and medicine; Dodge et al. 2021); repeated spans
of three sentences (`dedup` finds duplicates); language (the stage `language`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.request import keep_asked_for
from filters.stage import Filter
from filters.text import On, rows_with, text
from filters.verdict import Check, first_failure

LOREM_IPSUM = r"(?i)lorem ipsum"
JAVASCRIPT_NOTICE = (
    r"(?i)(?:please (?:enable|turn on|activate) javascript|"
    r"javascript (?:is|must be|needs to be) (?:disabled|enabled|turned off|turned on)|"
    r"requires javascript to (?:be enabled|work)|your browser does not support javascript|"
    r"(?:have|need) to enable javascript|enable javascript (?:in your|to (?:view|see|use|run|continue)))"
)
POLICY_NOTICE = (
    r"(?i)(?:\b(?:we|this (?:web)?site|our (?:web)?site) uses? cookies|accept (?:all |our )?cookies|"
    r"please enable cookies|you (?:agree|consent) to (?:our|the) use of cookies|"
    r"by (?:using|visiting|continuing to (?:use|browse)) (?:this|our|the) (?:web)?site,? you (?:agree|consent|accept))"
)
ASKED_FILLER = (
    r"(?i)lorem|placeholder|dummy|filler|sample|mock|template|boilerplate|layout|typeset|\bhtml\b|\bcss\b|web ?page|"
    r"latin|cicero|Blindtext|Platzhalter|texte factice|texto de relleno"
)
ASKED_NOTICE = (
    r"(?i)cookies?\b|privacy|\bconsent|gdpr|terms (?:of|and)|policy|policies|javascript|noscript|\bjs\b|browser|"
    r"disclaimer|banner|boilerplate|\bhtml\b|web ?(?:site|page)|datenschutz|confidentialité|privacidad"
)


class C4(Filter):
    """Drop web boilerplate. Each parameter but `on` turns one rule on or off.

    lorem_ipsum: drop texts with the dummy text `lorem ipsum`. javascript_notice: drop notices that JavaScript is off.
    policy_notice: drop texts that are notices of cookies and terms. curly_bracket: drop every text with `{`.
    """

    VERSION: ClassVar = 2

    kind: Literal["c4"] = "c4"
    on: On = "response"
    lorem_ipsum: bool = True
    javascript_notice: bool = True
    policy_notice: bool = True
    curly_bracket: bool = False

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `lorem_ipsum`, `javascript_notice`, `policy_notice`, `curly_bracket`. The value is 1: it occurs."""
        texts = text(records, self.on)
        checks = [
            _occurs("lorem_ipsum", texts, ("orem", "OREM"), LOREM_IPSUM, self.lorem_ipsum),
            _occurs("javascript_notice", texts, ("cript", "CRIPT"), JAVASCRIPT_NOTICE, self.javascript_notice),
            _occurs("policy_notice", texts, ("site", "cookies"), POLICY_NOTICE, self.policy_notice),
            _occurs("curly_bracket", texts, ("{",), r"\{", self.curly_bracket),
        ]
        for place, asked in enumerate((ASKED_FILLER, ASKED_NOTICE, ASKED_NOTICE)):
            kept = keep_asked_for(checks[place].failed, records, asked, self.on, given=asked is ASKED_FILLER)
            checks[place] = checks[place]._replace(failed=kept)
        return first_failure(checks)


def _occurs(reason: str, texts: pa.StringArray, literals: tuple[str, ...], pattern: str, enabled: bool) -> Check:
    """Where `pattern` matches, tried only in texts with one of `literals`, which are part of it as usually spelled."""
    matched: npt.NDArray[np.bool_] = np.zeros(len(texts), np.bool_)
    if enabled:
        rows = np.unique(np.concatenate([rows_with(texts, literal) for literal in literals]))
        matched[rows] = np.asarray(pc.match_substring_regex(texts.take(pa.array(rows)), pattern), np.bool_)
    return Check(reason, matched, matched, 1)

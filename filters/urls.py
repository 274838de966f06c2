"""URLs: answers that consist of links.

A response that gives an address among words is kept, and so is one whose instruction asks for an address or has one.
Nothing but addresses in answer to another question teaches a model to invent them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.request import keep_asked_for
from filters.stage import Filter, Ratio
from filters.text import On, rows_with, text
from filters.verdict import Check, first_failure

URL = r"(?i)(?:https?://|ftp://|www\.)[^\s<>\"]+"
SEPARATORS = r"[\s\-*•,;.<>()\[\]|]+"
"""What separates links in a list: white space, bullets and brackets are no words."""
ASKED = (
    r"(?i)\bwhere (?:can|could|do|should|is|are) \w|\b(?:docs|documentation|urls?|uris?|links?|linked|"
    r"hyperlinks?|href|hrefs|src|web ?sites?|sites?|home ?pages?|"
    r"web ?pages?|pages?|"
    r"web|online|internet|domains?|hosts?|address(?:es)?|sources?|cite|citations?|references?|bibliography|download|"
    r"downloaded|repo|repository|repositories|github|youtube|videos?|webseiten?|seiten?|adressen?|quellen?|liens?|"
    r"sitio|enlaces?|página|fuentes?|ссылк\w*|сайт\w*)\b|://|www\.|链接|网址|网站|リンク|サイト"
)


class Urls(Filter):
    """Drop texts that consist of URLs.

    max_url_char_ratio: the largest share of characters (without white space and what separates links) in URLs, 0 to 1.
    """

    RENAMED_KEYS: ClassVar = {"max_share": "max_url_char_ratio"}

    VERSION: ClassVar = 2

    kind: Literal["urls"] = "urls"
    on: On = "response"
    max_url_char_ratio: Ratio = 0.9

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `urls_only`. The value is the share of characters in URLs."""
        texts = text(records, self.on)
        ratio = np.zeros(len(texts), np.float64)
        rows = np.union1d(rows_with(texts, "://"), rows_with(texts, "www."))
        candidates = texts.take(pa.array(rows))
        before, after = (
            np.asarray(pc.utf8_length(pc.replace_substring_regex(part, SEPARATORS, "")))
            for part in (candidates, pc.replace_substring_regex(candidates, URL, ""))
        )
        ratio[rows] = 1 - after / np.maximum(before, 1)
        failed = keep_asked_for(ratio > self.max_url_char_ratio, records, ASKED, self.on)
        return first_failure([Check("urls_only", failed, ratio, self.max_url_char_ratio)])

"""URLs: answers that consist of links.

A response that gives an address among words is kept. One that is nothing but addresses teaches a model to invent them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, rows_with, text
from filters.verdict import Check, first_failure

URL = r"(?i)(?:https?://|ftp://|www\.)[^\s<>\"]+"


class Urls(Filter):
    """Drop texts that consist of URLs.

    max_url_char_ratio: the largest share of characters (without white space) in URLs, 0 to 1.
    """

    RENAMED_KEYS: ClassVar = {"max_share": "max_url_char_ratio"}

    kind: Literal["urls"] = "urls"
    on: On = "response"
    max_url_char_ratio: float = 0.9

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `urls_only`. The value is the share of characters in URLs."""
        texts = text(records, self.on)
        ratio = np.zeros(len(texts), np.float64)
        rows = np.union1d(rows_with(texts, "://"), rows_with(texts, "www."))
        candidates = texts.take(pa.array(rows))
        before, after = (
            np.asarray(pc.utf8_length(pc.replace_substring_regex(part, r"\s+", "")))
            for part in (candidates, pc.replace_substring_regex(candidates, URL, ""))
        )
        ratio[rows] = 1 - after / np.maximum(before, 1)
        return first_failure([Check("urls_only", ratio > self.max_url_char_ratio, ratio, self.max_url_char_ratio)])

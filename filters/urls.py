"""URLs-only answers: links where text should be.

A response that gives an address among words is kept; one that is nothing but addresses teaches a model to invent them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, holding, text
from filters.verdict import Check, first_failure

URL = r"(?i)(?:https?://|ftp://|www\.)[^\s<>\"]+"


class Urls(Filter):
    """Drop texts of whose characters (white space left out) more than `max_share` stand in URLs."""

    kind: Literal["urls"] = "urls"
    on: On = "response"
    max_share: float = 0.9

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `urls_only`. The value is the share of characters in URLs."""
        texts = text(records, self.on)
        share = np.zeros(len(texts), np.float64)
        hinted = np.union1d(holding(texts, "://"), holding(texts, "www."))
        some = texts.take(pa.array(hinted))
        before, after = (
            np.asarray(pc.utf8_length(pc.replace_substring_regex(part, r"\s+", "")))
            for part in (some, pc.replace_substring_regex(some, URL, ""))
        )
        share[hinted] = 1 - after / np.maximum(before, 1)
        return first_failure([Check("urls_only", share > self.max_share, share, self.max_share)])

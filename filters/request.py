"""What does the instruction ask for? Filters of responses keep what was asked for: links, refrains, a repeated word.

Each filter has a pattern of its own for its subject and tries it only on the rows that it would drop otherwise.
"""

from __future__ import annotations

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


def keep_asked_for(
    failed: npt.NDArray[np.bool_], records: pa.Table, pattern: str, on: On = "response"
) -> npt.NDArray[np.bool_]:
    """`failed` [rows] without the rows whose instruction matches `pattern` (RE2).

    on: the text that was judged. Where the instruction is a part of it, it excuses nothing.
    """
    if on != "response":
        return failed
    rows = np.flatnonzero(failed)
    if not len(rows):
        return failed
    asked = np.asarray(pc.match_substring_regex(as_array(records["instruction"]).take(pa.array(rows)), pattern))
    result = failed.copy()
    result[rows] = ~asked
    return result

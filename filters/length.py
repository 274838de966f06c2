"""Length in characters (Unicode code points).

The upper limit keeps out what no context holds: HRM-Text sees 4,096 tokens, about 16,000 characters of English, and
cuts off the rest. There is no lower limit by default: "42" and "yes" are good answers. `placeholder` drops empty texts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Count, Filter
from filters.text import On, text
from filters.verdict import Check, first_failure


class Length(Filter):
    """Keep texts of `min_chars` to `max_chars` characters, both included.

    min_chars: the fewest characters that are kept. max_chars: the most characters that are kept.
    """

    kind: Literal["length"] = "length"
    on: On = "both"
    min_chars: Count = 0
    max_chars: Count = 32_768

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `too_short`, `too_long`. The value is the length in characters."""
        length = np.asarray(pc.utf8_length(text(records, self.on)))
        return first_failure(
            [
                Check("too_short", length < self.min_chars, length, self.min_chars),
                Check("too_long", length > self.max_chars, length, self.max_chars),
            ]
        )

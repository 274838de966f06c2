"""What the scores share whose linear model reads the tokens of texts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.scores.features import tokens
from filters.scores.holdout import held_out
from filters.scores.score import TrainedScore
from filters.text import On, TextField, fields


class TokensScore(TrainedScore):
    """A score that is trained on four rows in five, and knows a text by its tokens. on: the texts that are read."""

    on: On

    @property
    def reads(self) -> tuple[TextField, ...]:
        """The fields of `on`."""
        return fields(self.on)

    def held_out(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """One row in five."""
        return held_out(rows)

    def as_read(self, field: TextField, texts: pa.StringArray) -> pa.Array:
        """The tokens."""
        return tokens(pa.table({field: texts}), field)[0]

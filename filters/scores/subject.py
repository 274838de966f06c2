"""What a row is about: a column with one of the labels of the recipe, by a classifier of words.

A score is compared within groups (`within: [subject]` of a cut). A subject that is judged from the text needs no column
of the source, and one source may have several.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from filters.scores import linear
from filters.scores.features import tokens
from filters.scores.holdout import check_rows, held_out, unseen
from filters.scores.linear import Trainer
from filters.scores.score import Choices, Rows
from filters.scores.tokens_score import TokensScore
from filters.text import On


class Subject(TokensScore):
    """The most likely of the labels, as a string column with the score's name.

    labels: name of each label, and the rows that have it. max_rows: at most so many rows of each label. on: the text
    that is read, of each field at most 8,192 bytes; by default the instruction, since a response has the style of its
    source. trainer: as for a classifier. buckets: pairs of words are hashed to so many numbers, with 4 bytes for each
    label.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["subject"] = "subject"
    labels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Choices]
    max_rows: Annotated[int, Field(ge=1)] = 10_000
    on: On = "instruction"
    trainer: Trainer = "fasttext"
    buckets: Annotated[int, Field(ge=1 << 10, le=1 << 24)] = 1 << 18

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("`labels` needs at least two; a subject tells them apart")
        return self

    @property
    def columns(self) -> tuple[pa.Field, ...]:
        """One string column named as the score."""
        return (pa.field(self.name, pa.string()),)

    def check(self) -> None:
        """Raises: ImportError: if the trainer's package is not installed."""
        linear.check(self.trainer)

    @property
    def training(self) -> dict[str, tuple[Rows, ...]]:
        """The rows of each label."""
        return dict(self.labels)

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The labels; null for a text without a word or pair of words that the training rows have."""
        assert model is not None
        trained = linear.read(model)
        best, known = _best(linear.logits(trained, tokens(records, self.on)))
        names = pa.DictionaryArray.from_arrays(
            pa.array(best, mask=~known), pa.array(trained.about["labels"], pa.string())
        )
        return pa.table([names.cast(pa.string())], schema=pa.schema(self.columns))

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        """Train on four rows in five. Measured on those of the fifth whose text is in no row trained on, or on all of a
        label that has no such row: `accuracy_<label>`, the share of the rows of a label that get it; `accuracy`, the
        mean over labels; and the rows of each label.

        Raises: ValueError: if a label has too few rows; the message names it.
        """
        names = sorted(self.labels)
        labels = np.array(rows["label"].to_pylist(), np.str_)
        held = held_out(rows)
        check_rows(labels, tuple(names), held)
        numbers = np.searchsorted(names, labels)
        texts = tokens(rows, self.on)
        train = [text.filter(pa.array(~held)) for text in texts]
        model = linear.train(train, numbers[~held], len(names), self.trainer, self.buckets)
        linear.write(model._replace(about={**model.about, "labels": names}), path)
        measured = unseen(texts, held)
        for n in range(len(names)):
            if not (numbers[measured] == n).any():
                measured |= held & (numbers == n)
        best, known = _best(linear.logits(model, [text.filter(pa.array(measured)) for text in texts]))
        right, truth = known & (best == numbers[measured]), numbers[measured]
        shares = {f"accuracy_{name}": round(float(right[truth == n].mean()), 4) for n, name in enumerate(names)}
        counts = {f"rows_{name}": int((numbers == n).sum()) for n, name in enumerate(names)}
        mean = round(float(np.mean(list(shares.values()))), 4)
        counts |= {"rows_held_out": int(held.sum()), "rows_measured": int(measured.sum())}
        return {"accuracy": mean, **shares, **counts}


def _best(outputs: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The number of the highest output, int64 [rows], and whether there is one, bool [rows]."""
    known = ~np.isnan(outputs[:, 0])
    if outputs.shape[1] == 1:  # two labels: the log-odds of the second
        return (outputs[:, 0] > 0).astype(np.int64), known
    return np.argmax(np.where(known[:, None], outputs, 0), axis=1), known

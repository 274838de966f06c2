"""A score that tells rows that are wanted from rows that are not, by their words.

The score is a log-odds: how likely the row is to be one of the positives where both labels are equally frequent. 0 is
even, 2 is 7 to 1, high is good. It is calibrated on rows that were held out (Platt), and does not saturate.

What a classifier learns is whatever sets the two labels apart. If they come from different sources, that is the source:
its manifest has the AUC of the source alone, of the length alone, and of the score within the sources that have both
labels. The length is taken away: the texts are cut so that both labels have the same distribution of lengths.

`errors` makes negatives from the positives, which then differ by nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.scores import linear
from filters.scores.corruption import Error, corrupt
from filters.scores.features import MAX_BYTES, tokens
from filters.scores.holdout import auc, auc_within, calibrate, check_rows, held_out, match_lengths, spearman, unseen
from filters.scores.linear import Trainer
from filters.scores.score import Choices, Rows
from filters.scores.tokens_score import TokensScore
from filters.text import On, fields

POSITIVE, NEGATIVE = "positive", "negative"


class Classifier(TokensScore):
    """Log-odds that a row is one of the positives and not of the negatives, from its words and pairs of words.

    positives, negatives: choices of rows. errors: kinds of errors (`agreement`, `article`, `confusion`, `drop`,
    `ending`, `repeat`, `spelling`, `swap`); copies of the positives with these errors are negatives too. on: the text
    that is read, of each field at most 8,192 bytes. trainer: `fasttext`, or `logistic`, a regression that needs the
    extra `quality` and tells single errors better. buckets: pairs of words are hashed to so many numbers, with 4 bytes
    each.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["classifier"] = "classifier"
    positives: Choices
    negatives: Choices | None = None
    errors: tuple[Error, ...] = ()
    on: On = "response"
    trainer: Trainer = "fasttext"
    buckets: Annotated[int, Field(ge=1 << 10, le=1 << 24)] = 1 << 19

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.negatives is None and not self.errors:
            raise ValueError(
                "`negatives` are missing; name rows that are not wanted, or `errors` to make in copies of the positives"
            )
        return self

    def check(self) -> None:
        """Raises: ImportError: if the trainer's package is not installed."""
        linear.check(self.trainer)

    @property
    def training(self) -> dict[str, tuple[Rows, ...]]:
        """The rows of `positive` and `negative`."""
        rows = {POSITIVE: self.positives}
        return rows if self.negatives is None else {**rows, NEGATIVE: self.negatives}

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The score; null for a text without a word or pair of words that the training rows have."""
        assert model is not None
        trained = linear.read(model)
        values = (
            trained.about["scale"] * linear.logits(trained, tokens(records, self.on))[:, 0] + trained.about["shift"]
        )
        return pa.table([pa.array(values, from_pandas=True).cast(pa.float32())], schema=pa.schema(self.columns))

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        """Train on four rows in five. Measured on those of the fifth whose text is in no row trained on, if both labels
        have some: `auc`, the AUC; `auc_length`, `auc_source`, those of the length and of the source alone;
        `auc_within_source`, over pairs of the same source; `spearman_length`, of score and length; and the rows of each
        label.

        Raises: ValueError: if a label has too few rows; the message names it.
        """
        if self.errors:
            rows = _with_errors(rows, fields(self.on), self.errors)
        labels = np.array(rows["label"].to_pylist(), np.str_)
        held = held_out(rows)
        check_rows(labels, (POSITIVE, NEGATIVE), held)
        positive = labels == POSITIVE
        texts = tokens(rows, self.on)
        kept = pa.array(~held)
        cut = [match_lengths(text.filter(kept), positive[~held]) for text in texts]
        model = linear.train(cut, positive[~held].astype(np.int64), 2, self.trainer, self.buckets)
        measured = unseen(texts, held)
        if not (positive[measured].any() and (~positive)[measured].any()):
            measured = held
        outputs = linear.logits(model, [text.filter(pa.array(measured)) for text in texts])[:, 0]
        known = ~np.isnan(outputs)
        if not positive[measured][known].any() or positive[measured][known].all():
            raise ValueError("no rows that were held out have known words; choose more rows")
        scale, shift = calibrate(positive[measured][known], outputs[known])
        linear.write(model._replace(about={**model.about, "scale": scale, "shift": shift}), path)
        length = np.sum([np.asarray(pc.utf8_length(rows[name])) for name in fields(self.on)], axis=0).astype(np.float64)
        values = _measured(positive, held, measured, np.nan_to_num(outputs, nan=-shift / scale), length, rows)
        counts = {
            f"rows_{POSITIVE}": positive.sum(),
            f"rows_{NEGATIVE}": (~positive).sum(),
            "rows_held_out": held.sum(),
            "rows_measured": measured.sum(),
        }
        return {
            **{name: round(value, 4) for name, value in values.items()},
            **{name: int(n) for name, n in counts.items()},
        }


def _with_errors(rows: pa.Table, names: tuple[str, ...], errors: tuple[Error, ...]) -> pa.Table:
    """The rows, and after each positive one a copy with errors. A positive row without room for one is left out."""
    copies = rows.filter(pc.equal(rows["label"], POSITIVE))
    changed = np.zeros(copies.num_rows, np.bool_)
    for name in names:
        before = copies[name].to_pylist()
        after = [corrupt(text[:MAX_BYTES], errors) + text[MAX_BYTES:] for text in before]  # what is read
        changed |= np.array([a != b for a, b in zip(after, before, strict=True)], np.bool_)
        copies = _set(copies, name, pa.array(after, copies.schema.field(name).type))
    copies = _set(copies, "label", pa.array([NEGATIVE] * copies.num_rows, rows.schema.field("label").type))
    places = np.flatnonzero(np.asarray(pc.equal(rows["label"], POSITIVE)))
    kept = np.setdiff1d(np.arange(rows.num_rows), places[~changed])
    order = np.argsort(np.concatenate([2 * kept, 2 * places[changed] + 1]), kind="stable")
    return pa.concat_tables([rows.take(kept), copies.filter(pa.array(changed))]).take(pa.array(order))


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), values)


def _measured(
    positive: npt.NDArray[np.bool_],
    held: npt.NDArray[np.bool_],
    measured: npt.NDArray[np.bool_],
    outputs: npt.NDArray[np.float64],
    length: npt.NDArray[np.float64],
    rows: pa.Table,
) -> dict[str, float]:
    """The measurements that are defined. positive, held, measured, length, rows: [rows]; outputs: [measured]."""
    source = np.array(rows["source"].to_pylist(), np.str_)
    truth = positive[measured]
    share = {name: positive[~held & (source == name)].mean() for name in np.unique(source[~held])}
    longer = 1 if auc(positive[~held], length[~held]) >= 0.5 else -1
    values: dict[str, Any] = {
        "auc": auc(truth, outputs),
        "auc_length": auc(truth, longer * length[measured]),
        "auc_source": auc(truth, np.array([share.get(name, 0.5) for name in source[measured]])),
        "auc_within_source": auc_within(truth, outputs, source[measured]),
        "spearman_length": spearman(outputs, length[measured]),
    }
    return {name: float(value) for name, value in values.items() if not np.isnan(value)}
